import { ImportError, importRecords } from '../usage/import-records.ts';
import { EXIT, UsageError, parseArguments } from './arguments.ts';

/**
 * @returns the exit code
 * @throws UsageError
 */
export function importCommand(args: readonly string[]): number {
  const { positionals } = parseArguments(args, {});
  const [from = '', to = ''] = positionals;
  if (positionals.length !== 2 || from === '' || to === '') throw new UsageError('two paths are needed');
  try {
    process.stdout.write(`${report(to, importRecords(from, to))}\n`);
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof ImportError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return EXIT.failed;
  }
}

function report(path: string, counts: ReadonlyMap<string, number>): string {
  const sum = [...counts.values()].reduce((one, other) => one + other, 0);
  const moods = [...counts].map(([mood, count]) => `${count} ${mood}`).join(', ');
  return `imported ${sum} records into "${path}"${moods === '' ? '' : `: ${moods}`}`;
}
