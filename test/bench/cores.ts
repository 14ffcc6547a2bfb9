import { availableParallelism } from 'node:os';
import { findProgram } from '../support/programs.ts';

/**
 * Command prefixes that pin the measured program to one core and the generator to the next. Empty if that is
 * not possible: the scheduler decides then.
 */
export const PINNED = pinned();

function pinned(): { readonly peer: readonly string[]; readonly load: readonly string[] } {
  const taskset = findProgram('taskset');
  if (taskset === null || availableParallelism() < 2) return { peer: [], load: [] };
  return { peer: [taskset, '-c', '0'], load: [taskset, '-c', '1'] };
}
