import { freePort } from '../support/listening.ts';
import type { Bench } from './bench.ts';
import { runLoad } from './load.ts';
import type { LoadOptions, Report } from './load.ts';
import type { Peer } from './peers.ts';
import { Samples } from './table.ts';

export const GIB = 2 ** 30;

export interface Bulk {
  readonly gibPerSecond: Samples;
  readonly cpuSecondsPerGib: Samples;
  /** CPU share of the generator on its core; near 1 it may be the bottleneck. */
  readonly generatorLoad: Samples;
}

export function runBulk(bench: Bench, peer: Peer, options: LoadOptions): Promise<Report> {
  const { warmUp, seconds } = bench;
  return runLoad(bench.programs, 'bulk', peer, { warmUp, seconds, ...options });
}

export function summarise(reports: readonly Report[]): Bulk {
  const each = (value: (report: Report) => number): Samples => new Samples(reports.map(value));
  return {
    gibPerSecond: each((report) => report.get('bytes') / GIB / report.get('seconds')),
    cpuSecondsPerGib: each((report) => (report.get('cpuSeconds') * GIB) / report.get('bytes')),
    generatorLoad: each((report) => report.get('generatorCpuSeconds') / report.get('seconds')),
  };
}

/** No peer: the generator's senders connect to its receivers. */
export async function noPeer(): Promise<Peer> {
  const port = await freePort();
  return {
    name: 'nothing in between',
    pid: 0,
    tcpPort: port,
    websocketPort: port,
    tlsPort: null,
    sinkPort: port,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
