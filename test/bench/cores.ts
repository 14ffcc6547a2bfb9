import { availableParallelism } from 'node:os';
import { findProgram } from '../support/programs.ts';

/**
 * Commands to put before another, so that what is measured has a core of its own and the generator has the next.
 * Empty where that can't be: the scheduler decides then.
 */
export const PINNED = pinned();

function pinned(): { readonly peer: readonly string[]; readonly load: readonly string[] } {
  const taskset = findProgram('taskset');
  if (taskset === null || availableParallelism() < 2) return { peer: [], load: [] };
  return { peer: [taskset, '-c', '0'], load: [taskset, '-c', '1'] };
}
