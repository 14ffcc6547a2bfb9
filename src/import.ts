import { parseArgs } from 'node:util';
import { ImportError, importRecords } from './usage/import-records.ts';

/** Exit codes; the last one is from sysexits.h. */
const EXIT = { failed: 1, usage: 64 } as const;

const USAGE = `usage: node src/import.ts OLD NEW
Imports usage records from OLD, the database (relay.sqlite) of a combined magic-wormhole server before 0.11, into NEW,
a new usage database for RELAY_USAGE_DB. OLD is not changed. NEW must not exist yet.
`;

const paths = pathsOf();
if (paths === null) {
  process.stderr.write(USAGE);
  process.exitCode = EXIT.usage;
} else {
  try {
    process.stdout.write(`${report(paths.to, importRecords(paths.from, paths.to))}\n`);
  } catch (error) {
    if (!(error instanceof ImportError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = EXIT.failed;
  }
}

/** Null if the arguments are not two paths. */
function pathsOf(): { readonly from: string; readonly to: string } | null {
  try {
    const { positionals } = parseArgs({ allowPositionals: true });
    const [from = '', to = ''] = positionals;
    return positionals.length === 2 && from !== '' && to !== '' ? { from, to } : null;
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

function report(path: string, counts: ReadonlyMap<string, number>): string {
  const sum = [...counts.values()].reduce((one, other) => one + other, 0);
  const moods = [...counts].map(([mood, count]) => `${count} ${mood}`).join(', ');
  return `imported ${sum} records into "${path}"${moods === '' ? '' : `: ${moods}`}`;
}
