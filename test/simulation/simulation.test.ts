import { deepEqual, equal, ok } from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Clock } from './clock.ts';
import * as constants from './constants.ts';
import { SimulatedCluster } from './simulated-cluster.ts';
import type { SimulationOptions } from './simulated-cluster.ts';
import type { CommandKind } from './simulated-redis.ts';
import { measureCoordinatorLoss, measureRelayLoss, measureSteadyState } from './measure.ts';
import { Random } from './random.ts';
import { newClient } from './relay-model.ts';
import type { ClientModel } from './relay-model.ts';

/** One-way latency and commands take 1 ms each. Only the test connects clients. */
const EXACT: SimulationOptions = {
  relays: 3,
  waiting: 0,
  waitMs: 60_000,
  unpairedShare: 0,
  latency: { name: 'exact', medianMs: 1, sigma: 0 },
  service: { commandMs: 1, batchMs: 1 },
  seed: 2,
};

const BUSY: SimulationOptions = { ...EXACT, waiting: 3000, service: { commandMs: 0.01, batchMs: 1 } };

/** Commands for leases, by kind. */
async function commandsOf(
  run: (cluster: SimulatedCluster) => Promise<void>,
): Promise<Partial<Record<CommandKind, number>>> {
  const cluster = await SimulatedCluster.start(EXACT);
  const kinds = ['acquire', 'take over', 'release', 'renew', 'look up'] as const;
  deepEqual(
    kinds.filter((kind) => cluster.coordinator.countOf(kind) > 0),
    [],
  );
  await run(cluster);
  const counts = kinds.map((kind) => [kind, cluster.coordinator.countOf(kind)] as const);
  return Object.fromEntries(counts.filter(([, count]) => count > 0));
}

describe('the simulated cluster', () => {
  test('has the constants of the relay', () => {
    const sourceFolder = join(import.meta.dirname, '..', '..', 'src');
    const read = (name: string): string => readFileSync(join(sourceFolder, `${name}.ts`), 'utf8');
    const names = ['token-leases', 'coordinator-client', 'router', 'forwarder'];
    const text = names.map((name) => read(`cluster/${name}`)).join('\n');
    const { LINK_LOSS_MS, ...named } = constants;
    for (const [name, value] of Object.entries(named)) {
      const [, digits = 'not there'] = new RegExp(`^const ${name} = ([\\d_]+);`, 'mu').exec(text) ?? [];
      equal(Number(digits.replaceAll('_', '')), value, name);
    }
    const keepAlive = /^const WAITING_LINK_KEEPALIVE.*: (\d+), .*: (\d+), .*: (\d+) \};$/mu;
    const [, delay, interval, probes] = keepAlive.exec(read('transport/link-transport')) ?? [];
    equal(LINK_LOSS_MS, 1000 * (Number(delay) + Number(interval) * Number(probes)));
  });

  test('pairs two clients of one relay immediately, with two commands: acquire and release', async () => {
    const commands = await commandsOf(async (cluster) => {
      const [, second] = await cluster.pairUp(1, 1, 100);
      equal(second.state, 'paired');
      deepEqual(cluster.tally.localMs, [0]);
      await cluster.runFor(100);
    });
    deepEqual(commands, { acquire: 1, release: 1 });
  });

  test('forwards a client with one lookup, three round trips of link authentication and one of its line, and three commands in total', async () => {
    const commands = await commandsOf(async (cluster) => {
      const [first, second] = await cluster.pairUp(0, 2, 100);
      equal(second.state, 'waiting');
      await cluster.runFor(100);
      equal(first.state, 'paired');
      equal(second.at, cluster.relays[0]);
      // 2 ms and 1 ms for the coordinator, 6 ms for link authentication, 1 ms for the line, 1 ms for the
      // reply.
      deepEqual(cluster.tally.forwardedMs.map(Math.round), [11]);
    });
    deepEqual(commands, { acquire: 2, release: 1 });
  });

  test('pairs two clients that connect to two relays at the same time', async () => {
    const cluster = await SimulatedCluster.start(EXACT);
    const [first, second] = await cluster.pairUp(0, 1, 0);
    await cluster.runFor(100);
    deepEqual([first.state, second.state], ['paired', 'paired']);
    equal(cluster.coordinator.countLeases(), 0);
    for (const { rendezvous } of cluster.relays) rendezvous.checkConsistency();
  });

  test('leaves clients of two relays unpaired without a coordinator, and pairs them when it is back', async () => {
    const cluster = await SimulatedCluster.start(EXACT);
    const [early] = await cluster.pairUp(0, 0, 0);
    equal(early.state, 'paired');
    cluster.relay(1).join(newClient(early.token, early.side, cluster.relay(1), cluster.clock.nowMs));
    await cluster.runFor(100);
    equal(cluster.coordinator.countLeases(), 1);
    cluster.coordinator.fail({ losesData: true });
    // Each relay notices immediately, because its connection is reset.
    await cluster.runFor(constants.HEALTH_CHECK_MS);
    const [first, second] = await cluster.pairUp(0, 1, 0);
    const [, third] = await cluster.pairUp(2, 2, 0);
    await cluster.runFor(10_000);
    deepEqual([first.state, second.state, third.state], ['waiting', 'waiting', 'paired']);
    cluster.coordinator.restart();
    equal(cluster.coordinator.countLeases(), 0);
    await cluster.runFor(constants.MAX_BACKOFF_MS + 500);
    deepEqual([first.state, second.state], ['paired', 'paired']);
  });

  test('keeps the leases of waiting clients indefinitely', async () => {
    const cluster = await SimulatedCluster.start(EXACT);
    const [first] = await cluster.pairUp(0, 0, 0);
    equal(first.state, 'paired');
    cluster.killRelay(1, 'refuses');
    const waiting = await SimulatedCluster.start({ ...BUSY, waitMs: 1e12 });
    for (let second = 0; second < 90; second += 1) {
      await waiting.runFor(1000);
      equal(waiting.coordinator.countLeases(), 3000);
    }
  });

  for (const [death, ms] of [
    ['refuses', 4 + constants.RECONNECT_DELAY_MS],
    ['silent', constants.LINK_CONNECT_TIMEOUT_MS],
  ] as const) {
    test(`takes over the leases of a dead relay: ${death}`, async () => {
      const cluster = await SimulatedCluster.start(EXACT);
      const [first] = await cluster.pairUp(0, 0, 0);
      equal(first.state, 'paired');
      const [lost, second] = await pairAtDyingRelay(cluster, death);
      await cluster.runFor(3000);
      deepEqual([lost.state, second.state], ['waiting', 'waiting']);
      equal(cluster.coordinator.countLeases(cluster.relay(0).leaseValue), 0);
      equal(cluster.coordinator.countLeases(cluster.relay(1).leaseValue), 1);
      // The lookup before took 3 ms.
      deepEqual(cluster.tally.takenOverMs.map(Math.round), [3 + ms]);
    });
  }
});

/** A client waits at relay 0, which dies; its partner connects to relay 1. */
async function pairAtDyingRelay(
  cluster: SimulatedCluster,
  death: 'refuses' | 'silent',
): Promise<readonly [ClientModel, ClientModel]> {
  cluster.clock.after(50, () => cluster.killRelay(0, death));
  return await cluster.pairUp(0, 1, 100);
}

describe('the simulation', () => {
  test('forwards the share 1 - 1/n of pairs with n relays', async () => {
    for (const relays of [3, 10]) {
      const run = await measureSteadyState({ ...BUSY, relays }, 60);
      const pairs = run.localPairs + run.forwardedPairs;
      ok(pairs > 2500, `${pairs} pairs`);
      const error = Math.abs(run.forwardedPairs / pairs - (1 - 1 / relays));
      // Four standard deviations.
      ok(error < 4 * Math.sqrt((relays - 1) / relays ** 2 / pairs), `${relays} relays: ${error}`);
    }
  });

  test('sends the commands of pairs, renewals and health checks, and no others', async () => {
    const run = await measureSteadyState({ ...BUSY, waiting: 30_000, waitMs: 600_000 }, 60);
    const pairs = run.localPairs * 2 + run.forwardedPairs * 3;
    // A little more than 20 batches per relay, a renewal every 9 s, a health check every 4.5 s.
    const others = 60 * ((3 * 20.5) / 9 + 3 / 4.5);
    const commands = run.commandsPerSecond * 60;
    ok(Math.abs(commands / (pairs + others) - 1) < 0.05, `${commands} of ${pairs + others}`);
  });

  test('loses the leases of a dead relay within the lease time', async () => {
    const { leasesLeft, cutOff, clearMs } = await measureRelayLoss(BUSY, 'refuses');
    ok(leasesLeft > 900 && Math.abs(leasesLeft - cutOff) < 10, `${leasesLeft} left, ${cutOff} cut off`);
    ok(clearMs > 15_000 && clearMs <= constants.LEASE_MS, `${clearMs} ms`);
  });

  test('pairs all clients soon after the coordinator is back', async () => {
    const { unpaired, pairedMs, acquiredMs } = await measureCoordinatorLoss(BUSY, 30_000);
    ok(unpaired > 100, `${unpaired} unpaired`);
    ok(pairedMs <= 6000 && acquiredMs <= 6000, `${pairedMs} and ${acquiredMs} ms`);
  });

  test('gives the same results for the same seed, and others for another seed', async () => {
    deepEqual(await measureSteadyState(BUSY, 5), await measureSteadyState(BUSY, 5));
    const [value, other] = [
      await measureSteadyState(BUSY, 5),
      await measureSteadyState({ ...BUSY, seed: BUSY.seed + 1 }, 5),
    ];
    ok(value.commandsPerSecond !== other.commandsPerSecond);
  });
});

describe('the clock', () => {
  test('runs events in order, and those of the same time in the order of scheduling', async () => {
    const clock = new Clock();
    const random = new Random(1);
    const times = Array.from({ length: 500 }, () => random.below(100));
    const seen: (readonly [number, number])[] = [];
    for (const [index, ms] of times.entries())
      clock.after(ms, () => {
        equal(clock.nowMs, ms);
        seen.push([ms, index]);
      });
    await clock.runUntil(99);
    const expected = times.map((ms, index): readonly [number, number] => [ms, index]);
    deepEqual(
      seen,
      expected.toSorted(([a, i], [b, j]) => a - b || i - j),
    );
  });
});

describe('random numbers', () => {
  test('have the expected averages', () => {
    const random = new Random(1);
    const draw = (next: () => number): number[] => Array.from({ length: 20_000 }, next);
    const mean = (all: readonly number[]): number => all.reduce((sum, value) => sum + value, 0) / all.length;
    ok(Math.abs(mean(draw(() => random.uniform())) - 0.5) < 0.01);
    ok(Math.abs(mean(draw(() => random.exponential(10))) - 10) < 0.3);
    const logarithms = draw(() => Math.log(random.logNormal(5, 0.5)));
    ok(Math.abs(mean(logarithms) - Math.log(5)) < 0.02);
    ok(Math.abs(mean(logarithms.map((value) => (value - Math.log(5)) ** 2)) - 0.25) < 0.02);
  });
});
