import { readFileSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { residentKiB } from '../bench/process-memory.ts';
import { eventually } from './programs.ts';

/** Clock ticks per second in /proc (USER_HZ); 100 on all current machines. */
const TICKS_PER_SECOND = 100;

/** Time for memory and file descriptors to be released, in milliseconds. */
const RETURN_TIMEOUT_MS = 20_000;

/** Resources of a process. */
export interface Vitals {
  readonly residentMiB: number;
  readonly fdCount: number;
}

export function vitalsOf(pid: number): Vitals {
  return { residentMiB: residentKiB(pid) / 1024, fdCount: readdirSync(`/proc/${pid}/fd`).length };
}

/**
 * Waits until a process has as many file descriptors as before and at most `marginMiB` more memory. Rejects
 * if that does not happen.
 */
export function vitalsReturn(pid: number, before: Vitals, marginMiB = 40): Promise<Vitals> {
  const what = (): string => {
    const { residentMiB, fdCount: openFiles } = vitalsOf(pid);
    return `${residentMiB.toFixed(0)} MiB and ${openFiles} file descriptors, expected ${before.residentMiB.toFixed(0)} MiB and ${before.fdCount}`;
  };
  return eventually(what, RETURN_TIMEOUT_MS, () => {
    const now = vitalsOf(pid);
    const isBack = now.fdCount === before.fdCount && now.residentMiB <= before.residentMiB + marginMiB;
    return isBack ? now : null;
  });
}

/** Time for a process to become idle, in milliseconds. */
const IDLE_TIMEOUT_MS = 5000;

const IDLE_WINDOW_MS = 250;

/** An idle process uses no CPU; one that spins uses a whole core. */
const MAX_IDLE_CORES = 0.2;

/** Resolves when a process is idle. Rejects if it keeps using the CPU. */
export async function untilIdle(pid: number): Promise<void> {
  const deadline = performance.now() + IDLE_TIMEOUT_MS;
  for (;;) {
    const cores = await coresUsed(pid, IDLE_WINDOW_MS);
    if (cores < MAX_IDLE_CORES) return;
    if (performance.now() > deadline) throw new Error(`an idle process uses ${cores} of a core`);
  }
}

/** CPU use of a process for the next `ms`, including its threads and kernel time; 1 is one core. */
export async function coresUsed(pid: number, ms: number): Promise<number> {
  const [startedAt, startedWith] = [performance.now(), cpuSeconds(pid)];
  await sleep(ms);
  return (cpuSeconds(pid) - startedWith) / ((performance.now() - startedAt) / 1000);
}

function cpuSeconds(pid: number): number {
  // The name in parentheses may contain spaces. User and system time are the 12th and 13th field after it.
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(/\) (?!.*\) )/u);
  const [user = NaN, system = NaN] = fields.split(' ').slice(11, 13).map(Number);
  return (user + system) / TICKS_PER_SECOND;
}
