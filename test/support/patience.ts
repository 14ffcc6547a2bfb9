import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [PATIENT_TIMEOUTS, CLOCK] = ['patient-timeouts.ts', 'stopped-clock.ts'].map(
  (name) => pathToFileURL(join(import.meta.dirname, name)).href,
);

/**
 * Environment of a relay that is tested for the order of events, not for the time between them: its monotonic clock stands
 * still. Each SIGUSR2 moves it forward by an hour, and prints `an hour later`.
 */
export const STOPPED_CLOCK: Readonly<Record<string, string>> = { NODE_OPTIONS: `--import=${CLOCK}` };

/**
 * Environment of a program that is not tested for these timeouts, in milliseconds. They take a minute, because on a busy
 * machine they would measure how long the program waits for a processor.
 */
export function patience(...timeoutsMs: readonly number[]): Readonly<Record<string, string>> {
  return { NODE_OPTIONS: `--import=${PATIENT_TIMEOUTS}`, PATIENT_MS: timeoutsMs.join(',') };
}
