import { syncBuiltinESMExports } from 'node:module';
import timers from 'node:timers/promises';
import { PROBE_TIMEOUT_MS } from '../../../src/status/health-probes.ts';

/**
 * Preloaded into a relay (`node --import`): its health probes end only after a minute instead of `PROBE_TIMEOUT_MS`,
 * so that a test can measure their time by a `ProcessorClock`.
 */

const PATIENCE_MS = 60_000;

const { setTimeout: sleep } = timers;

Object.assign(timers, {
  setTimeout: (ms: number, ...rest: unknown[]): unknown =>
    Reflect.apply(sleep, undefined, [ms === PROBE_TIMEOUT_MS ? PATIENCE_MS : ms, ...rest]),
});
syncBuiltinESMExports();
