import { Samples, formatTable } from '../bench/table.ts';
import type { GroupOptions } from './group.ts';
import { coordinatorLoss, relayLoss, steady } from './measure.ts';

/** How long nothing goes wrong, in seconds; and how long the coordinator is gone, in milliseconds. */
const STEADY_SECONDS = 60;
const GONE_MS = 30_000;

export function steadyTable(all: readonly GroupOptions[]): string {
  const rows = all.map((options) => {
    const run = steady(options, STEADY_SECONDS);
    const pairs = run.localPairs + run.forwardedPairs;
    return [
      ...named(options),
      Math.round(pairs / STEADY_SECONDS).toString(),
      (run.forwardedPairs / pairs).toFixed(4),
      (1 - 1 / options.relays).toFixed(4),
      run.commandsPerSecond.toFixed(0),
      run.busiestSecond.toString(),
      run.busy.toFixed(3),
      times(run.localMs),
      times(run.forwardedMs),
      run.longestAnswerMs.toFixed(1),
      run.late.toString(),
    ];
  });
  const header = ['pairs/s', 'forwarded', '1-1/n', 'commands/s', 'busiest second', 'coordinator busy'];
  return formatTable(
    `Nothing goes wrong, ${STEADY_SECONDS} s`,
    [
      ...NAMES,
      ...header,
      'ms to pair, local',
      'ms to pair, forwarded',
      'longest answer ms',
      'answers > 500 ms',
    ],
    rows,
  );
}

export function relayLossTable(all: readonly GroupOptions[]): string {
  const rows: string[][] = [];
  for (const options of all) {
    for (const death of ['refuses', 'silent'] as const) {
      const run = relayLoss(options, death);
      rows.push([
        ...named(options),
        death,
        run.cutOff.toString(),
        run.left.toString(),
        (run.clearMs / 1000).toFixed(2),
        run.takenOverMs.length.toString(),
        times(run.takenOverMs),
        times(run.forwardedMs),
      ]);
    }
  }
  const header = ['its machine', 'waiting clients cut off', 'claims left', 'gone after s', 'taken over'];
  return formatTable(
    'One relay dies',
    [...NAMES, ...header, 'ms to find out', 'ms to pair elsewhere, forwarded'],
    rows,
  );
}

export function coordinatorLossTable(all: readonly GroupOptions[]): string {
  const rows = all.map((options) => {
    const run = coordinatorLoss(options, GONE_MS);
    return [
      ...named(options),
      run.apart.toString(),
      (run.metMs / 1000).toFixed(2),
      (run.claimedMs / 1000).toFixed(2),
      run.busiestSecond.toString(),
      run.longestAnswerMs.toFixed(1),
      run.late.toString(),
      run.rounds.toFixed(1),
    ];
  });
  return formatTable(
    `The coordinator is gone for ${GONE_MS / 1000} s, and comes back empty`,
    [
      ...NAMES,
      'tokens apart then',
      'met after s',
      'claimed after s',
      'busiest second',
      'longest answer ms',
      'answers > 500 ms',
      'renewals of all in a minute',
    ],
    rows,
  );
}

const NAMES = ['relays', 'network'] as const;

function named({ relays, network }: GroupOptions): readonly string[] {
  return [relays.toString(), network.name];
}

/** `median (least–most)` */
function times(ms: readonly number[]): string {
  return ms.length === 0 ? '–' : new Samples(ms).format(1);
}
