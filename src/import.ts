import { parseArgs } from 'node:util';
import { ImportError, importRecords } from './usage/import-records.ts';

/** Exit codes; the last is that of sysexits.h. */
const EXIT = { failed: 1, usage: 64 } as const;

const USAGE = `usage: node src/import.ts OLD NEW
Imports the usage records of a combined magic-wormhole server (before 0.11), whose database OLD is (relay.sqlite), into
a new usage database NEW, for RELAY_USAGE_DB. OLD is only read, and NEW must not be there yet.
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

/** Null where they are not two paths. */
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
  return `${sum} records are now in "${path}"${moods === '' ? '' : `: ${moods}`}`;
}
