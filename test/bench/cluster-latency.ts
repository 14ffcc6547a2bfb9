import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { runBulk } from './bulk.ts';
import { placementsOf } from './cluster-placements.ts';
import type { BenchCluster } from './cluster.ts';
import { runLoad } from './load.ts';
import { Samples, formatTable } from './table.ts';

const NOTE = `Time from the second client's handshake to its \`ok\`, and round trip of a 1 KiB message without other traffic, both on
loopback. A network adds five round trips before the \`ok\`: one to the coordinator and four to the other relay; TLS adds more.
`;

/** Time until two clients are paired, and round trip of a message. */
export async function clusterLatency(bench: Bench, cluster: BenchCluster): Promise<void> {
  const { programs, warmUp, seconds } = bench;
  const results = await interleaved(placementsOf(cluster), bench.rounds, async ({ peer, otherPort }) => ({
    pairings: await runLoad(programs, 'latency', peer, { warmUp, seconds, otherPort }),
    pings: await runBulk(bench, peer, { pairs: 0, pingPong: true, otherPort }),
  }));
  const rows = results.map(({ benchCase, measured }) => {
    const milliseconds = (of: 'pairings' | 'pings', name: string): string =>
      new Samples(measured.map((round) => round[of].get(name) * 1000)).format(3);
    return [
      benchCase.name,
      milliseconds('pairings', 'p50Seconds'),
      milliseconds('pairings', 'p99Seconds'),
      milliseconds('pings', 'p50Seconds'),
      milliseconds('pings', 'p99Seconds'),
    ];
  });
  const header = ['pair', '`ok` p50 ms', 'p99 ms', 'ping-pong p50 ms', 'p99 ms'];
  bench.print(formatTable('Cluster: latency', header, rows));
  bench.print(NOTE);
}
