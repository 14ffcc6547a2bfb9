import { syncBuiltinESMExports } from 'node:module';
import timers from 'node:timers/promises';

/**
 * Preloaded into a program (`node --import`), see `patience.ts`: timeouts of the milliseconds in `PATIENT_MS` take a
 * minute.
 */

const PATIENCE_MS = 60_000;

const patientMs = new Set((process.env['PATIENT_MS'] ?? '').split(',').map(Number));

function patient(ms: number): number {
  return patientMs.has(ms) ? PATIENCE_MS : ms;
}

const { setTimeout: sleep } = timers;
const abortAfter = AbortSignal.timeout.bind(AbortSignal);

Object.assign(timers, {
  setTimeout: (ms: number, ...rest: unknown[]): unknown =>
    Reflect.apply(sleep, undefined, [patient(ms), ...rest]),
});
syncBuiltinESMExports();
AbortSignal.timeout = (ms) => abortAfter(patient(ms));
