import { readFileSync, readdirSync } from 'node:fs';

/** Resident memory of a process, in KiB. */
export function residentKiB(pid: number): number {
  const found = /^VmRSS:\s+(\d+) kB$/mu.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(found?.[1]);
}

/** In KiB. */
export interface MemoryUse {
  readonly resident: number;
  /** The part of `resident` that is not pages of files. */
  readonly anonymous: number;
}

/** Memory of a process and its descendants. */
export function memoryOf(pid: number): MemoryUse {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const field = (name: string): number => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'mu').exec(rollup)?.[1]);
  const own = { resident: field('Rss'), anonymous: field('Anonymous') };
  return childrenOf(pid)
    .map(memoryOf)
    .reduce(
      (sum, child) => ({
        resident: sum.resident + child.resident,
        anonymous: sum.anonymous + child.anonymous,
      }),
      own,
    );
}

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  );
}
