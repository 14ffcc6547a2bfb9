import { writeSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

/** Preloaded into a relay, see `patience.ts`: its monotonic clock stands still. Each SIGUSR2 moves it forward by an hour. */

const HOUR_MS = 3_600_000;

// Programs that start the relay, like npm, may preload this too.
if (isMainThread && process.argv[1]?.endsWith('main.ts') === true) {
  let nowMs = performance.now();
  performance.now = () => nowMs;
  process.on('SIGUSR2', () => {
    nowMs += HOUR_MS;
    writeSync(1, 'an hour later\n');
  });
}
