import { SimulatedCluster } from './simulated-cluster.ts';
import type { SimulationOptions, Tally } from './simulated-cluster.ts';
import type { FailureMode } from './relay-model.ts';

/** Time before anything is measured, so that renewals have found their pace; in milliseconds. */
const WARM_UP_MS = 15_000;

const SECOND_MS = 1000;

/** Between two looks at a recovery, in milliseconds. */
const POLL_MS = 250;

/** Recovery from the loss of the coordinator is looked at for so long, in milliseconds. */
const RECOVERY_WINDOW_MS = 60_000;

/** No recovery from the loss of a relay is looked at for longer. In milliseconds. */
const MAX_RECOVERY_MS = 120_000;

export interface SteadyState extends Tally {
  readonly commandsPerSecond: number;
  readonly busiestSecond: number;
  /** Share of the time that the coordinator was busy. */
  readonly busy: number;
  readonly longestAnswerMs: number;
  readonly lateAnswers: number;
}

/** Nothing goes wrong for so long. */
export function measureSteadyState(options: SimulationOptions, seconds: number): SteadyState {
  const group = warmCluster(options);
  const { coordinator } = group;
  const [commands, busyMs, late] = [coordinator.commands, coordinator.busyMs, group.lateAnswers];
  let busiestSecond = 0;
  for (let second = 0; second < seconds; second += 1) {
    const before = coordinator.commands;
    group.runFor(SECOND_MS);
    busiestSecond = Math.max(busiestSecond, coordinator.commands - before);
  }
  return {
    ...group.takeTally(),
    commandsPerSecond: (coordinator.commands - commands) / seconds,
    busiestSecond,
    busy: (coordinator.busyMs - busyMs) / (seconds * SECOND_MS),
    longestAnswerMs: coordinator.takeLongestMs(),
    lateAnswers: group.lateAnswers - late,
  };
}

export interface RelayLoss {
  readonly cutOff: number;
  /** Claims that it left behind. */
  readonly leasesLeft: number;
  /** Until none of them was there any more. */
  readonly clearMs: number;
  /** From arrival until it found that out and asked for the token, of each client that came for one of them. */
  readonly takenOverMs: readonly number[];
  /** Of pairs at the other relays meanwhile. */
  readonly forwardedMs: readonly number[];
}

/** One relay dies. */
export function measureRelayLoss(options: SimulationOptions, death: FailureMode): RelayLoss {
  const cluster = warmCluster(options);
  const { coordinator } = cluster;
  const left = coordinator.countLeases(0);
  cluster.killRelay(0, death);
  const fromMs = cluster.clock.nowMs;
  while (coordinator.countLeases(0) > 0 && cluster.clock.nowMs - fromMs < MAX_RECOVERY_MS)
    cluster.runFor(POLL_MS);
  const clearMs = cluster.clock.nowMs - fromMs;
  // Who calls the dead relay at the end is still on the way.
  cluster.runFor(5 * SECOND_MS);
  const { cutOff, takenOverMs, forwardedMs } = cluster.takeTally();
  return { cutOff, leasesLeft: left, clearMs, takenOverMs, forwardedMs };
}

export interface CoordinatorLoss {
  /** Tokens whose clients were at two relays and had not met when it came back. */
  readonly unpaired: number;
  /** From its return until these had met; NaN when that took more than a minute. */
  readonly pairedMs: number;
  /** And until each claim was there again. */
  readonly acquiredMs: number;
  readonly busiestSecond: number;
  readonly longestAnswerMs: number;
  readonly lateAnswers: number;
  /** Renewals of everything by a relay, in the minute from its return. */
  readonly renewals: number;
}

/** The coordinator is gone for so long, and comes back empty. */
export function measureCoordinatorLoss(options: SimulationOptions, goneMs: number): CoordinatorLoss {
  const cluster = warmCluster(options);
  const { coordinator } = cluster;
  coordinator.fail();
  cluster.runFor(goneMs);
  coordinator.restart();
  coordinator.takeLongestMs();
  const [apart, late, rounds] = [cluster.unpaired, cluster.lateAnswers, cluster.renewals];
  const fromMs = cluster.clock.nowMs;
  // What comes and goes meanwhile is never all settled: a look at who was there at its return is enough.
  const isUnmet = cluster.trackUnpaired();
  const isUnclaimed = cluster.trackUnacquired();
  let [metMs, claimedMs, busiestSecond] = [NaN, NaN, 0];
  const commandsAt: number[] = [coordinator.commands];
  for (let lookMs = POLL_MS; lookMs <= RECOVERY_WINDOW_MS; lookMs += POLL_MS) {
    cluster.runFor(POLL_MS);
    const sinceMs = cluster.clock.nowMs - fromMs;
    if (Number.isNaN(metMs) && !isUnmet()) metMs = sinceMs;
    if (Number.isNaN(claimedMs) && !isUnclaimed()) claimedMs = sinceMs;
    commandsAt.push(coordinator.commands);
    const before = commandsAt.at(-1 - SECOND_MS / POLL_MS);
    if (before !== undefined) busiestSecond = Math.max(busiestSecond, coordinator.commands - before);
  }
  return {
    unpaired: apart,
    pairedMs: metMs,
    acquiredMs: claimedMs,
    busiestSecond,
    longestAnswerMs: coordinator.takeLongestMs(),
    lateAnswers: cluster.lateAnswers - late,
    renewals: (cluster.renewals - rounds) / options.relays,
  };
}

function warmCluster(options: SimulationOptions): SimulatedCluster {
  const cluster = new SimulatedCluster(options);
  cluster.runFor(WARM_UP_MS);
  cluster.takeTally();
  cluster.coordinator.takeLongestMs();
  return cluster;
}
