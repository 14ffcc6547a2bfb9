import { Group } from './group.ts';
import type { GroupOptions, Tally } from './group.ts';
import type { Death } from './relay-model.ts';

/** Time before anything is measured, so that renewals have found their pace; in milliseconds. */
const WARM_UP_MS = 15_000;

const SECOND_MS = 1000;

/** Between two looks at a recovery, in milliseconds. */
const LOOK_MS = 250;

/** Recovery from the loss of the coordinator is looked at for so long, in milliseconds. */
const MINUTE_MS = 60_000;

/** No recovery from the loss of a relay is looked at for longer. In milliseconds. */
const PATIENCE_MS = 120_000;

export interface Steady extends Tally {
  readonly commandsPerSecond: number;
  readonly busiestSecond: number;
  /** Share of the time that the coordinator was busy. */
  readonly busy: number;
  readonly longestAnswerMs: number;
  readonly late: number;
}

/** Nothing goes wrong for so long. */
export function steady(options: GroupOptions, seconds: number): Steady {
  const group = warmGroup(options);
  const { coordinator } = group;
  const [commands, busyMs, late] = [coordinator.commands, coordinator.busyMs, group.late];
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
    late: group.late - late,
  };
}

export interface RelayLoss {
  readonly cutOff: number;
  /** Claims that it left behind. */
  readonly left: number;
  /** Until none of them was there any more. */
  readonly clearMs: number;
  /** From arrival until it found that out and asked for the token, of each client that came for one of them. */
  readonly takenOverMs: readonly number[];
  /** Of pairs at the other relays meanwhile. */
  readonly forwardedMs: readonly number[];
}

/** One relay dies. */
export function relayLoss(options: GroupOptions, death: Death): RelayLoss {
  const group = warmGroup(options);
  const { coordinator } = group;
  const left = coordinator.live(0);
  group.loseRelay(0, death);
  const fromMs = group.clock.nowMs;
  while (coordinator.live(0) > 0 && group.clock.nowMs - fromMs < PATIENCE_MS) group.runFor(LOOK_MS);
  const clearMs = group.clock.nowMs - fromMs;
  // Who calls the dead relay at the end is still on the way.
  group.runFor(5 * SECOND_MS);
  const { cutOff, takenOverMs, forwardedMs } = group.takeTally();
  return { cutOff, left, clearMs, takenOverMs, forwardedMs };
}

export interface CoordinatorLoss {
  /** Tokens whose clients were at two relays and had not met when it came back. */
  readonly apart: number;
  /** From its return until these had met; NaN when that took more than a minute. */
  readonly metMs: number;
  /** And until each claim was there again. */
  readonly claimedMs: number;
  readonly busiestSecond: number;
  readonly longestAnswerMs: number;
  readonly late: number;
  /** Renewals of everything by a relay, in the minute from its return. */
  readonly rounds: number;
}

/** The coordinator is gone for so long, and comes back empty. */
export function coordinatorLoss(options: GroupOptions, goneMs: number): CoordinatorLoss {
  const group = warmGroup(options);
  const { coordinator } = group;
  coordinator.fail();
  group.runFor(goneMs);
  coordinator.restart();
  coordinator.takeLongestMs();
  const [apart, late, rounds] = [group.apart, group.late, group.rounds];
  const fromMs = group.clock.nowMs;
  // What comes and goes meanwhile is never all settled: a look at who was there at its return is enough.
  const isUnmet = group.unmetNow();
  const isUnclaimed = group.unclaimedNow();
  let [metMs, claimedMs, busiestSecond] = [NaN, NaN, 0];
  const commandsAt: number[] = [coordinator.commands];
  for (let lookMs = LOOK_MS; lookMs <= MINUTE_MS; lookMs += LOOK_MS) {
    group.runFor(LOOK_MS);
    const sinceMs = group.clock.nowMs - fromMs;
    if (Number.isNaN(metMs) && !isUnmet()) metMs = sinceMs;
    if (Number.isNaN(claimedMs) && !isUnclaimed()) claimedMs = sinceMs;
    commandsAt.push(coordinator.commands);
    const before = commandsAt.at(-1 - SECOND_MS / LOOK_MS);
    if (before !== undefined) busiestSecond = Math.max(busiestSecond, coordinator.commands - before);
  }
  return {
    apart,
    metMs,
    claimedMs,
    busiestSecond,
    longestAnswerMs: coordinator.takeLongestMs(),
    late: group.late - late,
    rounds: (group.rounds - rounds) / options.relays,
  };
}

function warmGroup(options: GroupOptions): Group {
  const group = new Group(options);
  group.runFor(WARM_UP_MS);
  group.takeTally();
  group.coordinator.takeLongestMs();
  return group;
}
