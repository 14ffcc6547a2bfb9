import { isMainThread } from 'node:worker_threads';

/** Preloaded into a relay (`node --import`): each SIGUSR2 moves its monotonic clock forward by an hour. */

const HOUR_MS = 3_600_000;

let jumpedMs = 0;

const now = performance.now.bind(performance);

if (isMainThread) {
  performance.now = () => now() + jumpedMs;
  process.on('SIGUSR2', () => {
    jumpedMs += HOUR_MS;
    process.stderr.write(`${jumpedMs / HOUR_MS} h\n`);
  });
}
