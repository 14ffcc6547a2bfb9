import { setTimeout as sleep } from 'node:timers/promises';
import { residentKiB } from '../bench/process-memory.ts';
import { MonitoredRelay, isEmpty } from '../faults/support/monitored-relay.ts';
import type { ResourceUsage } from '../faults/support/monitored-relay.ts';
import { Dice } from '../support/dice.ts';
import { vitalsOf } from '../support/vitals.ts';
import { ACTORS, SOAK_SETTINGS, manyWaiting } from './actors.ts';
import { Stage } from './stage.ts';
import { findLeaks } from './verdict.ts';
import type { IdleSample } from './verdict.ts';

/** Concurrent actors of each kind. */
const EACH = 4;

/** Time between two rows of a round, in milliseconds. */
const SAMPLE_MS = 5000;

/** How long the last timers of an idle relay may run, in milliseconds: above its configured timeouts. */
const REST_MS = 2500;

/** Time for the relay to release all resources, in milliseconds: longer than it lingers for any client. */
const LET_GO_MS = 45_000;

const POLL_MS = 200;

/** Rounds before the first sample that counts, so that everything is loaded and has grown once. */
const WARM_UP_ROUNDS = 1;

/** Minimum number of rounds that show a trend. */
const LEAST_ROUNDS = 3;

export interface SoakOptions {
  /** Minimum duration; a started round is finished. */
  readonly ms: number;
  /** Load of one round, in milliseconds; the last actors take some seconds more. */
  readonly roundMs: number;
  /** Directory of the usage database. */
  readonly directory: string;
  /** Prints one line of the table. */
  readonly print: (line: string) => void;
}

export interface SoakResult {
  readonly leaks: readonly string[];
  /** How often each kind of actor ran. */
  readonly acts: Readonly<Record<string, number>>;
}

/** Uses a relay in every way, repeatedly, and samples its resources whenever it has no client. */
export async function soak({ ms, roundMs, directory, print }: SoakOptions): Promise<SoakResult> {
  await using monitored = await MonitoredRelay.start(directory, SOAK_SETTINGS);
  const stage = new Stage(monitored.rawPort, monitored.websocketPort);
  const acts: Record<string, number> = {};
  const samples: IdleSample[] = [];
  const startedAt = performance.now();
  const elapsed = (): number => performance.now() - startedAt;
  print(row(['s', 'round', 'RSS MiB', 'heap MiB', 'files', 'timers', 'others', 'acts']));
  let baseline: ResourceUsage | null = null;
  for (let round = 0; round < WARM_UP_ROUNDS + LEAST_ROUNDS || elapsed() < ms; round += 1) {
    const reporter = setInterval(() => {
      const { residentMiB, fdCount } = vitalsOf(monitored.relay.pid);
      print(row([elapsed() / 1000, round, residentMiB, '', fdCount, '', '', sum(acts)]));
    }, SAMPLE_MS);
    try {
      await playRound(stage, round, elapsed() + roundMs, elapsed, acts);
      await manyWaiting(stage, new Dice(round));
    } finally {
      clearInterval(reporter);
      stage.clear();
    }
    const resourceUsage = await holdingsAtRest(monitored, baseline);
    if (round + 1 === WARM_UP_ROUNDS) baseline = resourceUsage;
    const sample = {
      residentMiB: residentKiB(monitored.relay.pid) / 1024,
      heapMiB: resourceUsage.heapBytes / 2 ** 20,
      fdCount: resourceUsage.fdCount,
      resources: resourceUsage.resources,
    };
    const { Timeout: timers = 0 } = resourceUsage.resources;
    const { residentMiB, heapMiB, fdCount } = sample;
    const others = sum(resourceUsage.resources) - timers;
    print(row([elapsed() / 1000, 'at rest', residentMiB, heapMiB, fdCount, timers, others, sum(acts)]));
    if (round + 1 >= WARM_UP_ROUNDS) samples.push(sample);
  }
  return { leaks: findLeaks(samples), acts };
}

async function playRound(
  stage: Stage,
  seed: number,
  endMs: number,
  elapsed: () => number,
  acts: Record<string, number>,
): Promise<void> {
  const roles = Object.entries(ACTORS).flatMap((role) => Array.from({ length: EACH }, () => role));
  await Promise.all(
    roles.map(async ([name, act], index) => {
      const dice = new Dice(seed * roles.length + index);
      while (elapsed() < endMs) {
        await act(stage, dice);
        acts[name] = (acts[name] ?? 0) + 1;
      }
    }),
  );
}

/** Resources of the relay once they are back to `before`, or after a timeout. */
async function holdingsAtRest(
  monitored: MonitoredRelay,
  before: ResourceUsage | null,
): Promise<ResourceUsage> {
  await monitored.untilStatus(isEmpty);
  await sleep(REST_MS);
  const deadline = performance.now() + LET_GO_MS;
  for (;;) {
    const resourceUsage = await monitored.resourceUsage();
    if (before === null || holdsNoMore(resourceUsage, before) || performance.now() > deadline)
      return resourceUsage;
    await sleep(POLL_MS);
  }
}

function holdsNoMore(now: ResourceUsage, before: ResourceUsage): boolean {
  const resources = Object.entries(now.resources);
  return (
    now.fdCount === before.fdCount &&
    resources.every(([name, count]) => count <= (before.resources[name] ?? 0))
  );
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

function row(cells: readonly (string | number)[]): string {
  return cells
    .map((cell) => (typeof cell === 'string' ? cell : String(Math.round(cell * 10) / 10)).padStart(8))
    .join(' ');
}
