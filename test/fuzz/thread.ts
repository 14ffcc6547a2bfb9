import { parentPort, workerData } from 'node:worker_threads';
import { readCorpus } from './corpus.ts';
import { noteInput } from './messages.ts';
import type { Job, Report } from './messages.ts';
import { search } from './search.ts';
import { TARGETS } from './targets.ts';

/** Fuzzes one target for some time, in a thread of its own, so that a hanging input can be terminated. */

const { target, seconds, seed, current }: Job = workerData;
const report: Report = search(TARGETS[target], {
  stored: readCorpus(target),
  seconds,
  seed,
  onInput: (input) => noteInput(current, input),
});
parentPort?.postMessage(report);
