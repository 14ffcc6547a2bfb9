import { setTimeout as sleep } from 'node:timers/promises';
import { residentKiB } from '../bench/process-memory.ts';
import { MonitoredRelay, isEmpty } from '../faults/support/monitored-relay.ts';
import type { ResourceUsage } from '../faults/support/monitored-relay.ts';
import { Dice } from '../support/dice.ts';
import { vitalsOf } from '../support/vitals.ts';
import { ACTORS, SOAK_SETTINGS, manyWaiting } from './actors.ts';
import { SoakClients } from './stage.ts';
import { findLeaks } from './verdict.ts';
import type { IdleSample } from './verdict.ts';

/** Concurrent actors of each kind. */
const ACTORS_PER_KIND = 4;

/** Time between two rows of a round, in milliseconds. */
const SAMPLE_MS = 5000;

/** How long the last timers of an idle relay may run, in milliseconds: above its configured timeouts. */
const IDLE_MS = 5500;

/** Time for the relay to release all resources, in milliseconds: longer than it lingers for any client. */
const RELEASE_TIMEOUT_MS = 45_000;

const POLL_MS = 200;

/** Rounds before the first sample that counts, so that everything is loaded and has grown once. */
const WARM_UP_ROUNDS = 1;

/** Minimum number of rounds that show a trend. */
const MIN_ROUNDS = 3;

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
  readonly actions: Readonly<Record<string, number>>;
}

/** Uses a relay in every way, repeatedly, and samples its resources whenever it has no client. */
export async function soak({ ms, roundMs, directory, print }: SoakOptions): Promise<SoakResult> {
  await using monitored = await MonitoredRelay.start(directory, SOAK_SETTINGS);
  const clients = new SoakClients(monitored.rawPort, monitored.websocketPort);
  const actions: Record<string, number> = {};
  const samples: IdleSample[] = [];
  const startedAt = performance.now();
  const elapsed = (): number => performance.now() - startedAt;
  print(row(['s', 'round', 'RSS MiB', 'heap MiB', 'files', 'timers', 'others', 'actions']));
  let baseline: ResourceUsage | null = null;
  for (let round = 0; round < WARM_UP_ROUNDS + MIN_ROUNDS || elapsed() < ms; round += 1) {
    const reporter = setInterval(() => {
      const { residentMiB, fdCount } = vitalsOf(monitored.relay.pid);
      print(row([elapsed() / 1000, round, residentMiB, '', fdCount, '', '', sum(actions)]));
    }, SAMPLE_MS);
    try {
      await runRound(clients, round, elapsed() + roundMs, elapsed, actions);
      await manyWaiting(clients, new Dice(round));
    } finally {
      clearInterval(reporter);
      clients.clear();
    }
    const resourceUsage = await idleResources(monitored, baseline);
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
    print(row([elapsed() / 1000, 'idle', residentMiB, heapMiB, fdCount, timers, others, sum(actions)]));
    if (round + 1 >= WARM_UP_ROUNDS) samples.push(sample);
  }
  return { leaks: findLeaks(samples), actions };
}

async function runRound(
  clients: SoakClients,
  seed: number,
  endMs: number,
  elapsed: () => number,
  actions: Record<string, number>,
): Promise<void> {
  const actors = Object.entries(ACTORS).flatMap((actor) =>
    Array.from({ length: ACTORS_PER_KIND }, () => actor),
  );
  await Promise.all(
    actors.map(async ([name, action], index) => {
      const random = new Dice(seed * actors.length + index);
      while (elapsed() < endMs) {
        await action(clients, random);
        actions[name] = (actions[name] ?? 0) + 1;
      }
    }),
  );
}

/** Resources of the relay once they are back to `before`, or after a timeout. */
async function idleResources(
  monitored: MonitoredRelay,
  before: ResourceUsage | null,
): Promise<ResourceUsage> {
  await monitored.untilStatus(isEmpty);
  // Later rounds wait for the counts of the first one.
  if (before === null) await sleep(IDLE_MS);
  const deadline = performance.now() + RELEASE_TIMEOUT_MS;
  for (;;) {
    const resourceUsage = await monitored.resourceUsage();
    if (before === null || hasReleasedAll(resourceUsage, before) || performance.now() > deadline)
      return resourceUsage;
    await sleep(POLL_MS);
  }
}

function hasReleasedAll(now: ResourceUsage, before: ResourceUsage): boolean {
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
