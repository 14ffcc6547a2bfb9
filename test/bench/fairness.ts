import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { GIB, runBulk } from './bulk.ts';
import type { Report } from './load.ts';
import { startAll, startEpoll, startHaproxy, startReference, startRelay } from './peers.ts';
import { Samples, formatTable } from './table.ts';

const PAIRS = 8;
const KIB = 1024;

/** A pair with a ping-pong of 1 KiB messages while eight others run at full speed. */
export async function fairness(bench: Bench): Promise<void> {
  await using peers = await startAll(bench.programs, [
    startRelay,
    startReference,
    startHaproxy,
    startEpoll(256 * KIB),
  ]);
  const results = await interleaved(peers.all, bench.rounds, (peer) =>
    runBulk(bench, peer, { pairs: PAIRS, pingPong: true }),
  );
  const rows = results.map(({ benchCase, measured }) => {
    const each = (value: (report: Report) => number): Samples => new Samples(measured.map(value));
    const milliseconds = (name: string): string => each((report) => report.get(name) * 1000).format(2);
    return [
      benchCase.name,
      milliseconds('p50Seconds'),
      milliseconds('p99Seconds'),
      milliseconds('maxSeconds'),
      each((report) => report.get('roundTrips') / report.get('seconds')).median.toFixed(0),
      each((report) => report.get('slowestBytes') / report.get('fastestBytes')).format(2),
      each((report) => report.get('bytes') / GIB / report.get('seconds')).format(2),
    ];
  });
  const header = [
    'peer',
    'p50 ms',
    'p99 ms',
    'max ms',
    'round trips/s',
    'slowest pair / fastest',
    'GiB/s of all',
  ];
  bench.print(formatTable(`Fairness: ping-pong of 1 KiB beside ${PAIRS} pairs at full speed`, header, rows));
}
