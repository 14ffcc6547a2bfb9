import { Samples, formatTable } from '../bench/table.ts';
import type { SimulationOptions } from './simulated-cluster.ts';
import { measureCoordinatorLoss, measureRelayLoss, measureSteadyState } from './measure.ts';

/** Time without failures, in seconds; and how long the coordinator is down, in milliseconds. */
const STEADY_SECONDS = 60;
const OUTAGE_MS = 30_000;

export async function steadyTable(all: readonly SimulationOptions[]): Promise<string> {
  const rows: string[][] = [];
  for (const options of all) {
    const run = await measureSteadyState(options, STEADY_SECONDS);
    const pairs = run.localPairs + run.forwardedPairs;
    rows.push([
      ...configurationColumns(options),
      Math.round(pairs / STEADY_SECONDS).toString(),
      (run.forwardedPairs / pairs).toFixed(4),
      (1 - 1 / options.relays).toFixed(4),
      run.commandsPerSecond.toFixed(0),
      run.busiestSecond.toString(),
      run.busy.toFixed(3),
      formatTimes(run.localMs),
      formatTimes(run.forwardedMs),
      run.longestAnswerMs.toFixed(1),
      run.lateAnswers.toString(),
    ]);
  }
  const header = ['pairs/s', 'forwarded', '1-1/n', 'commands/s', 'busiest second', 'coordinator busy'];
  return formatTable(
    `No failures, ${STEADY_SECONDS} s`,
    [
      ...CONFIGURATION_HEADERS,
      ...header,
      'ms to pair, local',
      'ms to pair, forwarded',
      'longest answer ms',
      'answers > 500 ms',
    ],
    rows,
  );
}

export async function relayLossTable(all: readonly SimulationOptions[]): Promise<string> {
  const rows: string[][] = [];
  for (const options of all) {
    for (const death of ['refuses', 'silent'] as const) {
      const run = await measureRelayLoss(options, death);
      rows.push([
        ...configurationColumns(options),
        death,
        run.cutOff.toString(),
        run.leasesLeft.toString(),
        (run.clearMs / 1000).toFixed(2),
        run.takenOverMs.length.toString(),
        formatTimes(run.takenOverMs),
        formatTimes(run.forwardedMs),
      ]);
    }
  }
  const header = [
    'failure',
    'waiting clients cut off',
    'leases left',
    'expired after s',
    'tokens taken over',
  ];
  return formatTable(
    'One relay fails',
    [...CONFIGURATION_HEADERS, ...header, 'ms to take over', 'ms to pair, forwarded'],
    rows,
  );
}

export async function coordinatorLossTable(all: readonly SimulationOptions[]): Promise<string> {
  const rows: string[][] = [];
  for (const options of all) {
    const run = await measureCoordinatorLoss(options, OUTAGE_MS);
    rows.push([
      ...configurationColumns(options),
      run.unpaired.toString(),
      (run.pairedMs / 1000).toFixed(2),
      (run.acquiredMs / 1000).toFixed(2),
      run.busiestSecond.toString(),
      run.longestAnswerMs.toFixed(1),
      run.lateAnswers.toString(),
      run.renewals.toFixed(1),
    ]);
  }
  return formatTable(
    `The coordinator is down for ${OUTAGE_MS / 1000} s and restarts empty`,
    [
      ...CONFIGURATION_HEADERS,
      'unpaired tokens',
      'paired after s',
      'leased after s',
      'busiest second',
      'longest answer ms',
      'answers > 500 ms',
      'full renewals per minute',
    ],
    rows,
  );
}

const CONFIGURATION_HEADERS = ['relays', 'network'] as const;

function configurationColumns({ relays, latency: network }: SimulationOptions): readonly string[] {
  return [relays.toString(), network.name];
}

/** `median (least–most)` */
function formatTimes(ms: readonly number[]): string {
  return ms.length === 0 ? '–' : new Samples(ms).format(1);
}
