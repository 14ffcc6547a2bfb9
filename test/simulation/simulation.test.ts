import { deepEqual, equal, ok } from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Clock } from './clock.ts';
import * as constants from './constants.ts';
import { SimulatedCluster } from './simulated-cluster.ts';
import type { SimulationOptions } from './simulated-cluster.ts';
import { measureCoordinatorLoss, measureRelayLoss, measureSteadyState } from './measure.ts';
import { Random } from './random.ts';

/** Everything takes 1 ms: one way, and a command; nobody comes but whom a test sends. */
const EXACT: SimulationOptions = {
  relays: 3,
  waiting: 0,
  waitMs: 60_000,
  unpairedShare: 0,
  latency: { name: 'exact', medianMs: 1, sigma: 0 },
  service: { commandMs: 1, batchMs: 1 },
  // With others a relay renews its claims within the first moments.
  seed: 2,
};

const BUSY: SimulationOptions = { ...EXACT, waiting: 3000, service: { commandMs: 0.01, batchMs: 1 } };

/** Tests of the coordinator come in between, at times that the seed decides. */
function commandsOf(act: (group: SimulatedCluster) => void): number {
  const group = new SimulatedCluster(EXACT);
  act(group);
  const idle = new SimulatedCluster(EXACT);
  idle.runFor(group.clock.nowMs);
  return group.coordinator.commands - idle.coordinator.commands;
}

describe('the model of a group', () => {
  test('has the constants of the relay', () => {
    const folder = join(import.meta.dirname, '..', '..', 'src');
    const read = (name: string): string => readFileSync(join(folder, 'cluster', `${name}.ts`), 'utf8');
    const [leases, coordinator] = [read('token-leases'), read('coordinator-client')];
    const text = [leases, coordinator, read('router'), read('forwarder')].join('\n');
    const { MIN_PAUSE, ...named } = constants;
    for (const [name, value] of Object.entries(named)) {
      const [, digits = 'not there'] = new RegExp(`^const ${name} = ([\\d_]+);`, 'mu').exec(text) ?? [];
      equal(Number(digits.replaceAll('_', '')), value, name);
    }
    for (const source of [leases, coordinator]) ok(source.includes(`(${MIN_PAUSE} + Math.random() / 5)`));
  });

  test('pairs two clients of one relay without time, for a claim and a release', () => {
    const commands = commandsOf((group) => {
      const [, second] = group.pairUp(1, 1, 100);
      equal(second.state, 'paired');
      deepEqual(group.tally.localMs, [0]);
      group.runFor(100);
    });
    equal(commands, 2);
  });

  test('passes a client on in one question, three trips of a greeting and one of its line, for one command more', () => {
    const commands = commandsOf((group) => {
      const [first, second] = group.pairUp(0, 2, 100);
      equal(second.state, 'waiting');
      group.runFor(100);
      equal(first.state, 'paired');
      equal(second.at, group.relays[0]);
      // 2 and 1 of the coordinator; 6 of the greeting; the line; the word.
      deepEqual(group.tally.forwardedMs.map(Math.round), [11]);
    });
    equal(commands, 3);
  });

  test('lets two clients meet that come at one moment to two relays', () => {
    const group = new SimulatedCluster(EXACT);
    const [first, second] = group.pairUp(0, 1, 0);
    group.runFor(100);
    deepEqual([first.state, second.state], ['paired', 'paired']);
    equal(group.coordinator.countLeases(), 0);
    for (const { rendezvous } of group.relays) rendezvous.checkConsistency();
  });

  test('lets clients wait apart without a coordinator, and meet when it is back', () => {
    const group = new SimulatedCluster(EXACT);
    const [early] = group.pairUp(0, 0, 0);
    equal(early.state, 'paired');
    group.relays[1]?.leases.adopt(early.token);
    equal(group.coordinator.countLeases(), 1);
    group.coordinator.fail();
    // Each relay notices by its next test.
    group.runFor(constants.HEALTH_CHECK_MS);
    const [first, second] = group.pairUp(0, 1, 0);
    const [, third] = group.pairUp(2, 2, 0);
    group.runFor(10_000);
    deepEqual([first.state, second.state, third.state], ['waiting', 'waiting', 'paired']);
    group.coordinator.restart();
    equal(group.coordinator.countLeases(), 0);
    group.runFor(constants.MAX_BACKOFF_MS + 500);
    deepEqual([first.state, second.state], ['paired', 'paired']);
  });

  test('keeps the claims of those who wait, however long', () => {
    const group = new SimulatedCluster(EXACT);
    const [first] = group.pairUp(0, 0, 0);
    equal(first.state, 'paired');
    group.killRelay(1, 'refuses');
    const waiting = new SimulatedCluster({ ...BUSY, waitMs: 1e12 });
    for (let second = 0; second < 90; second += 1) {
      waiting.runFor(1000);
      equal(waiting.coordinator.countLeases(), 3000);
    }
  });

  for (const [death, ms] of [
    ['refuses', 4 + constants.RECONNECT_DELAY_MS],
    ['silent', constants.LINK_CONNECT_TIMEOUT_MS],
  ] as const) {
    test(`takes over what a relay had that is dead and ${death}`, () => {
      const group = new SimulatedCluster(EXACT);
      const [first] = group.pairUp(0, 0, 0);
      equal(first.state, 'paired');
      const [lost, second] = lonelyThenDead(group, death);
      group.runFor(3000);
      deepEqual([lost.state, second.state], ['waiting', 'waiting']);
      equal(group.coordinator.countLeases(0), 0);
      equal(group.coordinator.countLeases(1), 1);
      // The question before took 3.
      deepEqual(group.tally.takenOverMs.map(Math.round), [3 + ms]);
    });
  }
});

/** A client waits at relay 0, which dies; its partner comes to relay 1. */
function lonelyThenDead(group: SimulatedCluster, death: 'refuses' | 'silent') {
  group.clock.after(50, () => group.killRelay(0, death));
  return group.pairUp(0, 1, 100);
}

describe('the simulation', () => {
  test('passes on all but one in as many as there are relays', () => {
    for (const relays of [3, 10]) {
      const run = measureSteadyState({ ...BUSY, relays }, 60);
      const pairs = run.localPairs + run.forwardedPairs;
      ok(pairs > 2500, `${pairs} pairs`);
      const error = Math.abs(run.forwardedPairs / pairs - (1 - 1 / relays));
      // Four standard deviations.
      ok(error < 4 * Math.sqrt((relays - 1) / relays ** 2 / pairs), `${relays} relays: ${error}`);
    }
  });

  test('has as many commands as pairs, renewals and tests make', () => {
    const run = measureSteadyState({ ...BUSY, waiting: 30_000, waitMs: 600_000 }, 60);
    const pairs = run.localPairs * 2 + run.forwardedPairs * 3;
    // 20 batches and a little more for each relay, a round each 9 s; a test each 4.5 s.
    const others = 60 * ((3 * 20.5) / 9 + 3 / 4.5);
    const commands = run.commandsPerSecond * 60;
    ok(Math.abs(commands / (pairs + others) - 1) < 0.05, `${commands} of ${pairs + others}`);
  });

  test('is rid of the claims of a dead relay within a lease', () => {
    const { leasesLeft: left, cutOff, clearMs } = measureRelayLoss(BUSY, 'refuses');
    ok(left > 900 && Math.abs(left - cutOff) < 10, `${left} left, ${cutOff} cut off`);
    ok(clearMs > 15_000 && clearMs <= constants.LEASE_MS, `${clearMs} ms`);
  });

  test('has all meet soon after the coordinator is back', () => {
    const { unpaired: apart, pairedMs: metMs, acquiredMs: claimedMs } = measureCoordinatorLoss(BUSY, 30_000);
    ok(apart > 100, `${apart} apart`);
    ok(metMs <= 6000 && claimedMs <= 6000, `${metMs} and ${claimedMs} ms`);
  });

  test('is the same for the same seed, and another for another', () => {
    deepEqual(measureSteadyState(BUSY, 5), measureSteadyState(BUSY, 5));
    const [one, other] = [
      measureSteadyState(BUSY, 5),
      measureSteadyState({ ...BUSY, seed: BUSY.seed + 1 }, 5),
    ];
    ok(one.commandsPerSecond !== other.commandsPerSecond);
  });
});

describe('the clock', () => {
  test('has events happen in order, those of one moment as they were planned', () => {
    const clock = new Clock();
    const random = new Random(1);
    const times = Array.from({ length: 500 }, () => random.below(100));
    const happened: (readonly [number, number])[] = [];
    for (const [index, ms] of times.entries())
      clock.after(ms, () => {
        equal(clock.nowMs, ms);
        happened.push([ms, index]);
      });
    clock.runUntil(99);
    const planned = times.map((ms, index): readonly [number, number] => [ms, index]);
    deepEqual(
      happened,
      planned.toSorted(([a, i], [b, j]) => a - b || i - j),
    );
  });
});

describe('random numbers', () => {
  test('have the averages that they are to have', () => {
    const random = new Random(1);
    const draw = (next: () => number): number[] => Array.from({ length: 20_000 }, next);
    const mean = (all: readonly number[]): number => all.reduce((sum, one) => sum + one, 0) / all.length;
    ok(Math.abs(mean(draw(() => random.uniform())) - 0.5) < 0.01);
    ok(Math.abs(mean(draw(() => random.exponential(10))) - 10) < 0.3);
    const logarithms = draw(() => Math.log(random.logNormal(5, 0.5)));
    ok(Math.abs(mean(logarithms) - Math.log(5)) < 0.02);
    ok(Math.abs(mean(logarithms.map((one) => (one - Math.log(5)) ** 2)) - 0.25) < 0.02);
  });
});
