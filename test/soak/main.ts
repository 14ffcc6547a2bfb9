import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { soak } from './soak.ts';

/**
 * Mixed load on a relay, for minutes or hours: `npm run soak -- --minutes 3`, `npm run soak -- --hours 8`.
 * Prints the relay's resources, and any leaks at the end. Exit code 1 if there is a leak or a wrong byte.
 */

const USAGE = 'usage: node test/soak/main.ts [--minutes N | --hours N]\n';

const DEFAULT_MINUTES = 3;

/** Load of one round, in milliseconds. */
const ROUND_MS = 10_000;

/** In milliseconds; NaN for invalid arguments. */
function durationMs(): number {
  try {
    const options = { minutes: { type: 'string' }, hours: { type: 'string' } } as const;
    const { values } = parseArgs({ options });
    const { minutes = values.hours === undefined ? String(DEFAULT_MINUTES) : '0', hours = '0' } = values;
    return (Number(hours) * 60 + Number(minutes)) * 60_000;
  } catch {
    return NaN;
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

const ms = durationMs();
if (ms > 0) {
  const directory = await mkdtemp(join(tmpdir(), 'relay-soak-'));
  try {
    const { leaks, actions } = await soak({ ms, roundMs: ROUND_MS, directory, print });
    for (const [name, count] of Object.entries(actions)) print(`${String(count).padStart(8)} ${name}`);
    for (const leak of leaks) print(`LEAK ${leak}`);
    if (leaks.length === 0) print('no leak');
    process.exitCode = leaks.length === 0 ? 0 : 1;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
} else {
  process.stderr.write(USAGE);
  process.exitCode = 64;
}
