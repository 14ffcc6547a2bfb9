import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { GIB, runBulk } from './bulk.ts';
import { waysOf } from './cluster-ways.ts';
import type { Way } from './cluster-ways.ts';
import type { Site } from './cluster.ts';
import type { Report } from './load.ts';
import { Samples, formatTable, ratio } from './table.ts';

/** Bytes that move at one time: those of one way to come together, or of two side by side. */
interface Case {
  readonly pairs: number;
  readonly name: string;
  readonly ways: readonly Way[];
}

const NOTE = `All relays have one core together, so that a pair on two gets half of it at each. \`with a core each\` is computed: what the CPU
of the busiest relay allows. Two that share a core take memory out of each other's cache, pass on or not: that is what the last
ratio leaves out.
`;

/** A pair on two relays beside one on a single relay, bytes one way. */
export async function groupThroughput(bench: Bench, site: Site): Promise<void> {
  const cases = [1, 16].flatMap((pairs) => casesOf(site, pairs));
  const results = await interleaved(cases, bench.rounds, ({ pairs, ways }) =>
    Promise.all(
      ways.map(({ peer, otherPort, relays }) =>
        runBulk(bench, peer, { pairs, otherPort, pids: relays.map(({ pid }) => pid).join(',') }),
      ),
    ),
  );
  const summaries = results.map(({ which, measured }) => {
    const each = (value: (report: Report) => number): Samples =>
      new Samples(measured.map((reports) => reports.reduce((sum, report) => sum + value(report), 0)));
    return {
      which,
      gibPerSecond: each((report) => report.get('bytes') / GIB / report.get('seconds')),
      generatorLoad: each((report) => report.get('generatorCpuSeconds') / report.get('seconds')),
      busiest: Math.max(...which.ways.flatMap((way, index) => costsOf(way, index, measured))),
    };
  });
  const rows = summaries.map(({ which: { pairs, name, ways }, gibPerSecond, generatorLoad, busiest }) => {
    const [alone, sharing] = summaries.filter(({ which }) => which.pairs === pairs);
    const isOnTwo = ways.some(({ relays }) => relays.length > 1);
    return [
      String(pairs),
      name,
      gibPerSecond.format(2),
      ratio(gibPerSecond.median, alone?.gibPerSecond.median),
      busiest.toFixed(3),
      (1 / busiest).toFixed(2),
      ratio(1 / busiest, 1 / (alone?.busiest ?? Number.NaN)),
      isOnTwo ? ratio(1 / busiest, 1 / (sharing?.busiest ?? Number.NaN)) : '–',
      generatorLoad.median.toFixed(2),
    ];
  });
  const header = [
    'pairs',
    'clients',
    'GiB/s',
    'of one alone',
    'CPU s/GiB of the busiest relay',
    'GiB/s with a core each',
    'of one alone',
    'of two that share a core',
    'generator load',
  ];
  bench.print(formatTable('A group: throughput, bytes one way', header, rows));
  bench.print(NOTE);
}

/** The first two are what the others are compared with. */
function casesOf(site: Site, pairs: number): readonly Case[] {
  const [alone, ...others] = waysOf(site).map((way) => ({ pairs, name: way.name, ways: [way] }));
  const sharing = [site.first, site.second].map((peer) => ({
    name: '',
    peer,
    otherPort: peer.tcpPort,
    relays: [peer],
  }));
  const each = { pairs, name: 'on each of two', ways: sharing };
  return alone === undefined ? [] : [alone, each, ...others];
}

/** CPU seconds that each relay of a way takes for a GiB, as medians of all rounds. */
function costsOf({ relays }: Way, wayIndex: number, measured: readonly (readonly Report[])[]): number[] {
  return relays.map((_, index) => {
    const costs = measured.map((reports) => {
      const report = reports[wayIndex];
      return report === undefined
        ? Number.NaN
        : (report.get(`cpuSeconds${index}`) * GIB) / report.get('bytes');
    });
    return new Samples(costs).median;
  });
}
