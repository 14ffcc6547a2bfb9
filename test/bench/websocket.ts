import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { noPeer, runBulk, summarise } from './bulk.ts';
import { startAll, startRelay } from './peers.ts';
import { formatTable, ratio } from './table.ts';

const COMBINATIONS = [
  { from: 'tcp', to: 'tcp' },
  { from: 'websocket', to: 'websocket' },
  { from: 'websocket', to: 'tcp' },
  { from: 'tcp', to: 'websocket' },
] as const;

/**
 * Throughput of the reference's newest version from WebSocket to WebSocket, measured on a similar machine;
 * Debian's version has no WebSocket.
 */
const REFERENCE_GIB_PER_SECOND = 0.29;

/**
 * One pair and 16 through our relay, with 16 KiB masked messages for WebSocket, compared with its own raw
 * TCP.
 */
export async function websocket(bench: Bench): Promise<void> {
  await using peers = await startAll(bench.programs, [startRelay, noPeer]);
  const cases = (bench.quick ? [1] : [1, 16]).flatMap((pairs) =>
    peers.all.flatMap((peer) =>
      COMBINATIONS.filter(({ from, to }) => peer.pid !== 0 || from === to).map(({ from, to }) => ({
        pairs,
        peer,
        from,
        to,
      })),
    ),
  );
  const results = await interleaved(cases, bench.rounds, ({ peer, pairs, from, to }) =>
    runBulk(bench, peer, { pairs, from, to }),
  );
  const summaries = results.map(({ benchCase, measured }) => ({ benchCase, bulk: summarise(measured) }));
  const rows = summaries.map(({ benchCase, bulk }) => {
    const { pairs, peer, from, to } = benchCase;
    const raw = summaries.find(
      (other) =>
        other.benchCase.pairs === pairs &&
        other.benchCase.peer === peer &&
        other.benchCase.from === other.benchCase.to,
    );
    const speed = bulk.gibPerSecond.median;
    return [
      String(pairs),
      peer.name,
      `${from} to ${to}`,
      bulk.gibPerSecond.format(2),
      peer.pid === 0 ? '–' : bulk.cpuSecondsPerGib.format(2),
      ratio(speed, raw?.bulk.gibPerSecond.median),
      from === 'websocket' ? ratio(speed, REFERENCE_GIB_PER_SECOND) : '–',
      bulk.generatorLoad.median.toFixed(2),
    ];
  });
  const header = [
    'pairs',
    'peer',
    'transports',
    'GiB/s',
    'CPU s/GiB',
    'of its TCP',
    `of ${REFERENCE_GIB_PER_SECOND} GiB/s`,
    'generator load',
  ];
  bench.print(formatTable('WebSocket, 16 KiB masked messages, bytes one way', header, rows));
}
