import { readFileSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { residentKiB } from '../bench/process-memory.ts';
import { eventually } from './programs.ts';

/** The kernel's clock ticks in a second, as /proc counts them; the same on all machines of today (USER_HZ). */
const TICKS_PER_SECOND = 100;

/** How long memory and descriptors may take to be given back, in milliseconds. */
const RETURN_TIMEOUT_MS = 20_000;

/** What a process holds. */
export interface Vitals {
  readonly residentMiB: number;
  readonly openFiles: number;
}

export function vitalsOf(pid: number): Vitals {
  return { residentMiB: residentKiB(pid) / 1024, openFiles: readdirSync(`/proc/${pid}/fd`).length };
}

/**
 * Waits until a process holds as many descriptors as it did, and no more memory than that and `marginMiB`. Rejects when
 * it does not come to that.
 */
export function vitalsReturn(pid: number, before: Vitals, marginMiB = 40): Promise<Vitals> {
  const what = (): string => {
    const { residentMiB, openFiles } = vitalsOf(pid);
    return `${residentMiB.toFixed(0)} MiB and ${openFiles} descriptors came back to ${before.residentMiB.toFixed(0)} MiB and ${before.openFiles}`;
  };
  return eventually(what, RETURN_TIMEOUT_MS, () => {
    const now = vitalsOf(pid);
    const isBack = now.openFiles === before.openFiles && now.residentMiB <= before.residentMiB + marginMiB;
    return isBack ? now : null;
  });
}

/** How busy a process is for `ms` from now, its threads and the kernel's work for it included: 1 is one core. */
export async function coresUsed(pid: number, ms: number): Promise<number> {
  const [startedAt, startedWith] = [performance.now(), cpuSeconds(pid)];
  await sleep(ms);
  return (cpuSeconds(pid) - startedWith) / ((performance.now() - startedAt) / 1000);
}

function cpuSeconds(pid: number): number {
  // The name, in brackets, may have blanks in it. Of what follows, user and system time are the 12th and 13th.
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(/\) (?!.*\) )/u);
  const [user = NaN, system = NaN] = fields.split(' ').slice(11, 13).map(Number);
  return (user + system) / TICKS_PER_SECOND;
}
