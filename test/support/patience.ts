import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const PATIENT_TIMEOUTS = pathToFileURL(join(import.meta.dirname, 'patient-timeouts.ts')).href;

/**
 * Environment of a program that is not tested for these timeouts, in milliseconds. They take a minute, because on a busy
 * machine they would measure how long the program waits for a processor.
 */
export function patience(...timeoutsMs: readonly number[]): Readonly<Record<string, string>> {
  return { NODE_OPTIONS: `--import=${PATIENT_TIMEOUTS}`, PATIENT_MS: timeoutsMs.join(',') };
}
