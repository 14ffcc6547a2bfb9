import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { noPeer, runBulk, summarise } from './bulk.ts';
import type { Bulk } from './bulk.ts';
import { startAll, startEpoll, startHaproxy, startReference, startRelay } from './peers.ts';
import type { Peer } from './peers.ts';
import { formatTable, ratio } from './table.ts';

const KIB = 1024;
const SMALL_BUFFER = startEpoll(64 * KIB);

const PEERS = [
  startRelay,
  startReference,
  startHaproxy,
  SMALL_BUFFER,
  startEpoll(256 * KIB),
  startEpoll(1024 * KIB),
  noPeer,
];

/** One pair and 16, compared with other forwarding programs on this machine: bytes one way, and both ways. */
export async function throughput(bench: Bench): Promise<void> {
  const starts = bench.quick ? PEERS.filter((start) => start !== SMALL_BUFFER) : PEERS;
  await using peers = await startAll(bench.programs, starts);
  await printThroughput(bench, peers.all, false);
  await printThroughput(bench, peers.all, true);
}

/** @param both whether bytes flow both ways; their sum counts */
async function printThroughput(bench: Bench, peers: readonly Peer[], both: boolean): Promise<void> {
  const cases = [1, 16].flatMap((pairs) => peers.map((peer) => ({ pairs, peer })));
  const results = await interleaved(cases, bench.rounds, ({ peer, pairs }) =>
    runBulk(bench, peer, { pairs, both }),
  );
  const summaries = results.map(({ benchCase, measured }) => ({ benchCase, bulk: summarise(measured) }));
  const rows = summaries.map(({ benchCase, bulk }) => {
    const { pairs, peer } = benchCase;
    const beside = (name: string): Bulk | undefined =>
      summaries.find((other) => other.benchCase.pairs === pairs && other.benchCase.peer.name === name)?.bulk;
    const speed = bulk.gibPerSecond.median;
    const cpu = bulk.cpuSecondsPerGib;
    return [
      String(pairs),
      peer.name,
      bulk.gibPerSecond.format(2),
      peer.pid === 0 ? '–' : cpu.format(2),
      ratio(speed, beside('reference')?.gibPerSecond.median),
      peer.pid === 0 ? '–' : ratio(cpu.median, beside('reference')?.cpuSecondsPerGib.median),
      ratio(speed, beside('haproxy')?.gibPerSecond.median),
      ratio(speed, beside('c-epoll 256K')?.gibPerSecond.median),
      ratio(speed, beside('c-epoll 1024K')?.gibPerSecond.median),
      bulk.generatorLoad.median.toFixed(2),
    ];
  });
  bench.print(
    formatTable(
      `Throughput, bytes ${both ? 'both ways' : 'one way'}`,
      [
        'pairs',
        'peer',
        'GiB/s',
        'CPU s/GiB',
        'of reference',
        'CPU of reference',
        'of haproxy',
        'of c-epoll 256K',
        'of 1024K',
        'generator load',
      ],
      rows,
    ),
  );
}
