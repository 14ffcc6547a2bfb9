import { EXIT, UsageError } from './cli/arguments.ts';
import { importCommand } from './cli/import.ts';

/** `transit-relay import` under its older name. */
try {
  process.exitCode = importCommand(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`usage: node src/import.ts OLD NEW\n${error.message}\n`);
  process.exitCode = EXIT.usage;
}
