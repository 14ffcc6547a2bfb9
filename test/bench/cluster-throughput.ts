import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { GIB, runBulk } from './bulk.ts';
import { placementsOf } from './cluster-placements.ts';
import type { Placement } from './cluster-placements.ts';
import type { Site } from './cluster.ts';
import type { Report } from './load.ts';
import { Samples, formatTable, ratio } from './table.ts';

/** Concurrent pairs: all with the same placement, or of two placements side by side. */
interface Case {
  readonly pairs: number;
  readonly name: string;
  readonly placements: readonly Placement[];
}

const NOTE = `All relays have one core together, so that a pair on two gets half of it at each. \`with a core each\` is computed: what the CPU
of the busiest relay allows. Two relays that share a core evict each other's cache lines, even without forwarding; the last ratio
excludes that.
`;

/** A pair on two relays compared with one on a single relay, bytes one way. */
export async function clusterThroughput(bench: Bench, site: Site): Promise<void> {
  const cases = [1, 16].flatMap((pairs) => casesOf(site, pairs));
  const results = await interleaved(cases, bench.rounds, ({ pairs, placements }) =>
    Promise.all(
      placements.map(({ peer, otherPort, relays }) =>
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
      busiest: Math.max(
        ...which.placements.flatMap((placement, index) => costsOf(placement, index, measured)),
      ),
    };
  });
  const rows = summaries.map(
    ({ which: { pairs, name, placements }, gibPerSecond, generatorLoad, busiest }) => {
      const [alone, sharing] = summaries.filter(({ which }) => which.pairs === pairs);
      const isOnTwo = placements.some(({ relays }) => relays.length > 1);
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
    },
  );
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
  bench.print(formatTable('A cluster: throughput, bytes one way', header, rows));
  bench.print(NOTE);
}

/** The first two are the baselines of the others. */
function casesOf(site: Site, pairs: number): readonly Case[] {
  const [alone, ...others] = placementsOf(site).map((placement) => ({
    pairs,
    name: placement.name,
    placements: [placement],
  }));
  const sharing = [site.first, site.second].map((peer) => ({
    name: '',
    peer,
    otherPort: peer.tcpPort,
    relays: [peer],
  }));
  const each = { pairs, name: 'on each of two', placements: sharing };
  return alone === undefined ? [] : [alone, each, ...others];
}

/** CPU seconds per GiB of each relay of a placement, as medians of all rounds. */
function costsOf(
  { relays }: Placement,
  placementIndex: number,
  measured: readonly (readonly Report[])[],
): number[] {
  return relays.map((_, index) => {
    const costs = measured.map((reports) => {
      const report = reports[placementIndex];
      return report === undefined
        ? Number.NaN
        : (report.get(`cpuSeconds${index}`) * GIB) / report.get('bytes');
    });
    return new Samples(costs).median;
  });
}
