import { readFileSync } from 'node:fs';

/** Resident memory of a process, in KiB. */
export function residentKiB(pid: number): number {
  const found = /^VmRSS:\s+(\d+) kB$/mu.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(found?.[1]);
}
