import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { writeCrash } from './corpus.ts';
import { notedInput, roomForInput } from './messages.ts';
import type { Job, Report } from './messages.ts';
import { reasonAgainst } from './search.ts';
import { MAX_INPUT_BYTES } from './target.ts';
import { TARGETS, TARGET_NAMES } from './targets.ts';
import type { TargetName } from './targets.ts';

/**
 * Fuzzes the parsers of untrusted bytes: `npm run fuzz -- [--seconds 60] [--target NAME] [--seed N]`. The
 * targets share the seconds. `--target NAME --input FILE` runs one input. Exit code 1 if there is a finding.
 */
const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    target: { type: 'string' },
    seed: { type: 'string' },
    input: { type: 'string' },
  },
});

/** A thread that is this late hangs. */
const GRACE_MS = 30_000;

/** An input that needs more than this is a finding. */
const MAX_MEMORY_MB = 512;

// Child threads end with this process, which ends on a signal.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

await run();

async function run(): Promise<void> {
  const names = TARGET_NAMES.filter((name) => values.target === undefined || name === values.target);
  const seconds = Number(values.seconds);
  const seed = Number(values.seed ?? Date.now() % 2 ** 32);
  if (names.length === 0 || !(seconds > 0) || !Number.isSafeInteger(seed)) {
    print(`usage: --target is one of ${TARGET_NAMES.join(', ')}; --seconds and --seed are numbers`);
    process.exitCode = 2;
    return;
  }
  for (const name of names) {
    if (values.input === undefined) await fuzz(name, seconds / names.length, seed);
    else await replay(name, values.input);
  }
}

async function replay(name: TargetName, path: string): Promise<void> {
  const reason = reasonAgainst(TARGETS[name], readFileSync(path));
  print(`${name}: ${reason ?? 'no finding'}`);
  if (reason !== null) process.exitCode = 1;
}

async function fuzz(name: TargetName, seconds: number, seed: number): Promise<void> {
  const start = performance.now();
  const current = roomForInput(MAX_INPUT_BYTES);
  const { executions, finding } = await runThread({ target: name, seconds, seed, current });
  const took = (performance.now() - start) / 1000;
  const perSecond = Math.round(executions / took);
  print(
    `${name.padEnd(18)} ${String(executions).padStart(8)} executions, ${String(perSecond).padStart(6)}/s, seed ${seed}`,
  );
  if (finding === null) return;
  process.exitCode = 1;
  const reproduction = (path: string): string =>
    `node test/fuzz/main.ts --target ${name} --input ${relative('.', path)}`;
  const notes = (path: string): string =>
    `seed ${seed}, after ${executions} executions, ${took.toFixed(1)} s\n${reproduction(path)}\n\n${finding.reason}\n`;
  const path = writeCrash(name, finding.input, notes);
  print(`${name} is broken: ${finding.reason}\n  reproduce it with ${reproduction(path)}`);
}

/** Runs a job. For a thread that hangs or dies, the report names its current input. */
async function runThread(job: Job): Promise<Report> {
  const worker = new Worker(new URL('thread.ts', import.meta.url), {
    workerData: job,
    resourceLimits: { maxOldGenerationSizeMb: MAX_MEMORY_MB },
  });
  const reports: Report[] = [];
  let reason = 'the thread ended';
  worker.on('message', (report: Report) => reports.push(report));
  worker.on('error', (error: Error) => {
    reason = error.stack ?? error.message;
  });
  const timeout = setTimeout(
    () => {
      reason = 'the input does not end';
      void worker.terminate();
    },
    job.seconds * 1000 + GRACE_MS,
  );
  await new Promise((resolve) => worker.once('exit', resolve));
  clearTimeout(timeout);
  return reports[0] ?? { executions: 0, finding: { input: notedInput(job.current), reason } };
}
