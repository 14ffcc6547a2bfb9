import { SimulatedCluster } from './simulated-cluster.ts';
import type { SimulationOptions, Tally } from './simulated-cluster.ts';
import type { FailureMode } from './relay-model.ts';

/** Warm-up time before measuring, so that renewals are spread out; in milliseconds. */
const WARM_UP_MS = 15_000;

const SECOND_MS = 1000;

/** Poll interval during a recovery, in milliseconds. */
const POLL_MS = 250;

/** Time for which the recovery from the loss of the coordinator is measured, in milliseconds. */
const RECOVERY_WINDOW_MS = 60_000;

/** Time limit for measuring the recovery from the loss of a relay, in milliseconds. */
const MAX_RECOVERY_MS = 120_000;

export interface SteadyState extends Tally {
  readonly commandsPerSecond: number;
  readonly busiestSecond: number;
  /** Share of the time that the coordinator was busy. */
  readonly busy: number;
  readonly longestAnswerMs: number;
  readonly lateAnswers: number;
}

/** Measures a cluster without failures for `seconds`. */
export async function measureSteadyState(options: SimulationOptions, seconds: number): Promise<SteadyState> {
  const cluster = await warmCluster(options);
  const { coordinator } = cluster;
  const [commands, busyMs, lateAnswers] = [coordinator.commands, coordinator.busyMs, cluster.lateAnswers];
  let busiestSecond = 0;
  for (let second = 0; second < seconds; second += 1) {
    const before = coordinator.commands;
    await cluster.runFor(SECOND_MS);
    busiestSecond = Math.max(busiestSecond, coordinator.commands - before);
  }
  return {
    ...cluster.takeTally(),
    commandsPerSecond: (coordinator.commands - commands) / seconds,
    busiestSecond,
    busy: (coordinator.busyMs - busyMs) / (seconds * SECOND_MS),
    longestAnswerMs: cluster.takeLongestAnswerMs(),
    lateAnswers: cluster.lateAnswers - lateAnswers,
  };
}

export interface RelayLoss {
  readonly cutOff: number;
  /** Leases of the dead relay. */
  readonly leasesLeft: number;
  /** Until all of them had expired or were taken over. */
  readonly clearMs: number;
  /**
   * For each client that connected for one of these tokens: time until its relay found the owner dead and
   * took over.
   */
  readonly takenOverMs: readonly number[];
  /** For each pair at the other relays meanwhile: time until it was paired. */
  readonly forwardedMs: readonly number[];
}

/** Measures the recovery after one relay has died. */
export async function measureRelayLoss(options: SimulationOptions, death: FailureMode): Promise<RelayLoss> {
  const cluster = await warmCluster(options);
  const { coordinator } = cluster;
  const { leaseValue } = cluster.relay(0);
  const leasesLeft = coordinator.countLeases(leaseValue);
  cluster.killRelay(0, death);
  const fromMs = cluster.clock.nowMs;
  while (coordinator.countLeases(leaseValue) > 0 && cluster.clock.nowMs - fromMs < MAX_RECOVERY_MS)
    await cluster.runFor(POLL_MS);
  const clearMs = cluster.clock.nowMs - fromMs;
  // Connection attempts to the dead relay may still be running.
  await cluster.runFor(5 * SECOND_MS);
  const { cutOff, takenOverMs, forwardedMs } = cluster.takeTally();
  return { cutOff, leasesLeft, clearMs, takenOverMs, forwardedMs };
}

export interface CoordinatorLoss {
  /** Tokens whose clients waited at two relays when the coordinator restarted. */
  readonly unpaired: number;
  /** From the restart until these were paired; NaN if that took more than a minute. */
  readonly pairedMs: number;
  /** From the restart until all leases were acquired again. */
  readonly acquiredMs: number;
  readonly busiestSecond: number;
  readonly longestAnswerMs: number;
  readonly lateAnswers: number;
  /** Times that all leases were renewed, in the minute after the restart. */
  readonly renewals: number;
}

/** Measures the recovery after the coordinator was down for `goneMs` and has restarted empty. */
export async function measureCoordinatorLoss(
  options: SimulationOptions,
  goneMs: number,
): Promise<CoordinatorLoss> {
  const cluster = await warmCluster(options);
  const { coordinator } = cluster;
  coordinator.fail({ losesData: true });
  await cluster.runFor(goneMs);
  coordinator.restart();
  cluster.takeLongestAnswerMs();
  const [unpaired, lateAnswers, renewedKeys] = [
    cluster.unpaired,
    cluster.lateAnswers,
    coordinator.renewedKeys,
  ];
  const fromMs = cluster.clock.nowMs;
  // Clients keep connecting, so only those present at the restart are tracked.
  const isUnpaired = cluster.trackUnpaired();
  const isUnacquired = cluster.trackUnacquired();
  let [pairedMs, acquiredMs, busiestSecond] = [NaN, NaN, 0];
  const commandsAt: number[] = [coordinator.commands];
  for (let pollMs = POLL_MS; pollMs <= RECOVERY_WINDOW_MS; pollMs += POLL_MS) {
    await cluster.runFor(POLL_MS);
    const sinceMs = cluster.clock.nowMs - fromMs;
    if (Number.isNaN(pairedMs) && !isUnpaired()) pairedMs = sinceMs;
    if (Number.isNaN(acquiredMs) && !isUnacquired()) acquiredMs = sinceMs;
    commandsAt.push(coordinator.commands);
    const before = commandsAt.at(-1 - SECOND_MS / POLL_MS);
    if (before !== undefined) busiestSecond = Math.max(busiestSecond, coordinator.commands - before);
  }
  return {
    unpaired,
    pairedMs,
    acquiredMs,
    busiestSecond,
    longestAnswerMs: cluster.takeLongestAnswerMs(),
    lateAnswers: cluster.lateAnswers - lateAnswers,
    renewals: (coordinator.renewedKeys - renewedKeys) / coordinator.countLeases(),
  };
}

async function warmCluster(options: SimulationOptions): Promise<SimulatedCluster> {
  const cluster = await SimulatedCluster.start(options);
  await cluster.runFor(WARM_UP_MS);
  cluster.takeTally();
  cluster.takeLongestAnswerMs();
  return cluster;
}
