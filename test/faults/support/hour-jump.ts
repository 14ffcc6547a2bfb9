import { isMainThread } from 'node:worker_threads';

/**
 * Preloaded into a relay (`node --import`): each SIGUSR2 moves its monotonic clock forward by an hour. Long timers
 * that are due by then fire, so that long timeouts end at a moment that the test chooses. With `HOLD_LONG_TIMERS` they do
 * not fire earlier, however slow the machine is.
 */

const HOUR_MS = 3_600_000;

/** Shorter timers fire soon by themselves, in milliseconds. */
const LONG_TIMER_MS = 20_000;

/** Longest timer of Node, in milliseconds. */
const NEVER_MS = 2 ** 31 - 1;

/** Long timers fire by a jump only. */
const isHeld = process.env['HOLD_LONG_TIMERS'] === 'true';

interface LongTimer {
  /** By the clock that jumps. */
  readonly dueAt: number;
  readonly fire: () => void;
}

let jumpedMs = 0;

const now = performance.now.bind(performance);
const { setTimeout: startTimer, clearTimeout: stopTimer } = globalThis;

const longTimers = new Map<unknown, LongTimer>();

function setTimer(callback: (...args: unknown[]) => void, ms = 1, ...args: unknown[]): NodeJS.Timeout {
  if (ms < LONG_TIMER_MS) return startTimer(callback, ms, ...args);
  const fire = (): void => {
    clearTimer(timer);
    callback(...args);
  };
  const timer = startTimer(fire, isHeld ? NEVER_MS : ms);
  longTimers.set(timer, { dueAt: performance.now() + ms, fire });
  return timer;
}

function clearTimer(timer?: NodeJS.Timeout): void {
  longTimers.delete(timer);
  stopTimer(timer);
}

function fireDueTimers(): void {
  for (const { dueAt, fire } of longTimers.values()) if (dueAt <= performance.now()) fire();
}

if (isMainThread) {
  performance.now = () => now() + jumpedMs;
  Object.assign(globalThis, { setTimeout: setTimer, clearTimeout: clearTimer });
  process.on('SIGUSR2', () => {
    jumpedMs += HOUR_MS;
    fireDueTimers();
    process.stderr.write(`${jumpedMs / HOUR_MS} h\n`);
  });
}
