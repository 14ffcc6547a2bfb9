import { parentPort, workerData } from 'node:worker_threads';
import { Dice } from '../support/dice.ts';
import { MAX_CORPUS_FILES, readCorpus } from './corpus.ts';
import { Coverage, addressOf } from './coverage.ts';
import { Fuzzer } from './fuzzer.ts';
import type { Finding } from './fuzzer.ts';
import { noteInput } from './messages.ts';
import type { Job, Report } from './messages.ts';
import { SOURCES, loadTarget } from './targets.ts';

/** Fuzzes one target for some time, in a thread of its own, so that a hanging input can be terminated. */

const job: Job = workerData;
const start = performance.now();
const seconds = (): number => (performance.now() - start) / 1000;

using coverage = new Coverage(SOURCES[job.target].map(addressOf));
const target = await loadTarget(job.target);
const fuzzer = new Fuzzer(target, coverage, new Dice(job.seed), (input) => noteInput(job.current, input));

let finding: Finding | null = null;
for (const input of readCorpus(job.target)) finding ??= fuzzer.try(input);
while (finding === null && seconds() < job.seconds) finding = fuzzer.step();

const report: Report = {
  executions: fuzzer.executions,
  seconds: seconds(),
  entries: fuzzer.corpus.length,
  blocks: coverage.blocks,
  coveredBlocks: coverage.coveredBlocks,
  corpus: finding === null ? fuzzer.distill(MAX_CORPUS_FILES) : [],
  finding,
};
parentPort?.postMessage(report);
