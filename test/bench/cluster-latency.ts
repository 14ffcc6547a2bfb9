import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { runBulk } from './bulk.ts';
import { placementsOf } from './cluster-placements.ts';
import type { Site } from './cluster.ts';
import { runLoad } from './load.ts';
import { Samples, formatTable } from './table.ts';

const NOTE = `From the second client's handshake to its \`ok\`, and a ping-pong of 1 KiB with nothing beside it; one after the other,
on loopback. A network adds five round trips before the \`ok\`, one to the coordinator and four to the other relay, and more with TLS.
`;

/** Time until two clients are paired, and round trip of a message. */
export async function clusterLatency(bench: Bench, site: Site): Promise<void> {
  const { workshop, warmUp, seconds } = bench;
  const results = await interleaved(placementsOf(site), bench.rounds, async ({ peer, otherPort }) => ({
    meetings: await runLoad(workshop, 'meet', peer, { warmUp, seconds, otherPort }),
    pings: await runBulk(bench, peer, { pairs: 0, pingPong: true, otherPort }),
  }));
  const rows = results.map(({ which, measured }) => {
    const milliseconds = (of: 'meetings' | 'pings', name: string): string =>
      new Samples(measured.map((round) => round[of].get(name) * 1000)).format(3);
    return [
      which.name,
      milliseconds('meetings', 'p50Seconds'),
      milliseconds('meetings', 'p99Seconds'),
      milliseconds('pings', 'p50Seconds'),
      milliseconds('pings', 'p99Seconds'),
    ];
  });
  const header = ['pair', '`ok` p50 ms', 'p99 ms', 'ping-pong p50 ms', 'p99 ms'];
  bench.print(formatTable('A cluster: how long a client waits', header, rows));
  bench.print(NOTE);
}
