import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { API } from 'typescript/unstable/sync';
import { Dice } from '../support/dice.ts';
import { mutationsOf } from './mutations.ts';
import type { Mutation } from './mutations.ts';
import { TestsOf } from './tests-of.ts';

/**
 * Measures how many small random changes of the sources the tests notice:
 * `npm run mutate -- [--count 200] [--seed N] [--files src/limits/] [--seconds 120] [--jobs 2]`.
 *
 * Each mutation is made in a copy of the project. The unit and contract tests that load the file run, nearest first,
 * until one fails or `--seconds` have passed. Mutations that no test notices are listed; some of them change
 * nothing that can be observed. `--files` selects sources by the beginning of their path.
 */
const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
    files: { type: 'string', default: 'src/' },
    seconds: { type: 'string', default: '120' },
    jobs: { type: 'string', default: '2' },
  },
});

/** What the tests read. */
const COPIED =
  'src test deploy docs Dockerfile docker-compose.yml package.json tsconfig.json CHANGELOG.md README.md'.split(
    ' ',
  );

/** A test file that takes longer hangs, which is noticed in CI too. */
const HANG_MS = 60_000;

interface Candidate extends Mutation {
  readonly file: string;
}

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

const [count, seed, seconds, jobs] = [values.count, values.seed, values.seconds, values.jobs].map(Number);
if (!count || seed === undefined || !Number.isSafeInteger(seed) || !seconds || !jobs) {
  print('usage: --count, --seconds and --jobs are numbers above 0, --seed is a whole number');
  process.exit(2);
}

const tests = new TestsOf(['test/unit/**/*.test.ts', 'test/contract/*.test.ts']);
const directory = mkdtempSync(join(tmpdir(), 'mutation-'));
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

const chosen = choose(candidates(), count, new Dice(seed));
const survivors: Candidate[] = [];
/** Whether a test file passes without a mutation. If not, its failures count for nothing. */
const healthOf = new Map<string, Promise<boolean>>();
const original = copyProject('original');
let done = 0;
const queue = [...chosen];
await Promise.all(Array.from({ length: jobs }, (_, index) => work(copyProject(`job-${index}`))));

const killed = chosen.length - survivors.length;
print(
  `\nseed ${seed}: ${killed} of ${chosen.length} mutations noticed (${Math.round((100 * killed) / chosen.length)}%)`,
);
for (const survivor of survivors.toSorted((a, b) => a.file.localeCompare(b.file) || a.line - b.line)) {
  print(describe(survivor));
}

for (const [test, health] of healthOf) {
  if (!(await health)) print(`${test} was ignored: it fails without a mutation`);
}

/** All mutations of sources that a test loads. */
function candidates(): Candidate[] {
  const api = new API({ cwd: process.cwd() });
  try {
    const snapshot = api.updateSnapshot({ openProjects: [resolve('tsconfig.json')] });
    const found: Candidate[] = [];
    const unloaded: string[] = [];
    for (const { program } of snapshot.getProjects()) {
      for (const path of program.getSourceFileNames()) {
        const file = path.slice(process.cwd().length + 1);
        if (!file.startsWith('src/') || !file.startsWith(values.files) || file.endsWith('.d.ts')) continue;
        const source = program.getSourceFile(path);
        if (source === undefined) continue;
        if (tests.nearestFirst(file).length === 0) unloaded.push(file);
        else for (const mutation of mutationsOf(source)) found.push({ ...mutation, file });
      }
    }
    print(
      `${found.length} mutations possible; no unit or contract test loads ${unloaded.join(', ') || 'none'}`,
    );
    return found;
  } finally {
    api.close();
  }
}

function choose(from: Candidate[], most: number, dice: Dice): Candidate[] {
  const found: Candidate[] = [];
  while (from.length > 0 && found.length < most) {
    const [candidate] = from.splice(dice.between(0, from.length - 1), 1);
    if (candidate !== undefined && parses(candidate.source)) found.push(candidate);
  }
  return found;
}

function parses(source: string): boolean {
  try {
    stripTypeScriptTypes(source);
    return true;
  } catch {
    return false;
  }
}

function copyProject(name: string): string {
  const copy = join(directory, name);
  for (const entry of COPIED) cpSync(entry, join(copy, entry), { recursive: true });
  symlinkSync(resolve('node_modules'), join(copy, 'node_modules'));
  return copy;
}

async function work(copy: string): Promise<void> {
  for (let mutation = queue.shift(); mutation !== undefined; mutation = queue.shift()) {
    writeFileSync(join(copy, mutation.file), mutation.source);
    const start = performance.now();
    const noticed = await firstFailure(copy, mutation.file);
    cpSync(mutation.file, join(copy, mutation.file));
    done += 1;
    const took = `${done}/${chosen.length}, ${Math.round((performance.now() - start) / 1000)} s`;
    if (noticed === null) survivors.push(mutation);
    print(`${took}: ${noticed ?? 'SURVIVED'}: ${describe(mutation)}`);
  }
}

/** The test file that notices the mutation. */
async function firstFailure(copy: string, file: string): Promise<string | null> {
  const deadline = performance.now() + Number(seconds) * 1000;
  for (const test of tests.nearestFirst(file)) {
    if (performance.now() > deadline) return null;
    if (await passes(copy, test)) continue;
    const health = healthOf.get(test) ?? isHealthy(test);
    healthOf.set(test, health);
    if (await health) return test;
  }
  return null;
}

/** A test may fail once because the machine is busy. */
async function isHealthy(test: string): Promise<boolean> {
  return (await passes(original, test)) || passes(original, test);
}

/** Runs a test file until its first failure. */
async function passes(copy: string, test: string): Promise<boolean> {
  const child = spawn(process.execPath, ['--test-reporter=tap', test], {
    cwd: copy,
    env: { ...process.env, NODE_COMPILE_CACHE: join(directory, 'compile-cache') },
    stdio: ['ignore', 'pipe', 'ignore'],
    // A group of its own, which includes the programs that the test starts.
    detached: true,
  });
  const kill = (): void => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  };
  let failed = false;
  const timeout = setTimeout(kill, HANG_MS);
  process.once('exit', kill);
  child.stdout.on('data', (data: Buffer) => {
    if (failed || !/^\s*not ok/mu.test(data.toString())) return;
    failed = true;
    kill();
  });
  const code = await new Promise<number | null>((resolveCode) => child.once('close', resolveCode));
  clearTimeout(timeout);
  process.off('exit', kill);
  return code === 0;
}

function describe({ file, line, before, after }: Candidate): string {
  return `${file}:${line}: ${before}  →  ${after}`;
}
