import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { GIB, runBulk } from './bulk.ts';
import { placementsOf } from './cluster-placements.ts';
import type { Placement } from './cluster-placements.ts';
import type { BenchCluster } from './cluster.ts';
import type { Report } from './load.ts';
import { Samples, formatTable, ratio } from './table.ts';

/** Concurrent pairs: all with the same placement, or of two placements side by side. */
interface Case {
  readonly pairs: number;
  readonly name: string;
  readonly placements: readonly Placement[];
}

const NOTE = `All relays share one core, so a pair on two relays gets half of it at each. \`with a core each\` is computed: the throughput
that the CPU of the busiest relay allows. Two relays on one core evict each other's cache lines even without forwarding; the last
ratio excludes this effect.
`;

/** A pair on two relays compared with one on a single relay, bytes one way. */
export async function clusterThroughput(bench: Bench, cluster: BenchCluster): Promise<void> {
  const cases = [1, 16].flatMap((pairs) => casesOf(cluster, pairs));
  const results = await interleaved(cases, bench.rounds, ({ pairs, placements }) =>
    Promise.all(
      placements.map(({ peer, otherPort, relays }) =>
        runBulk(bench, peer, { pairs, otherPort, pids: relays.map(({ pid }) => pid).join(',') }),
      ),
    ),
  );
  const summaries = results.map(({ benchCase, measured }) => {
    const each = (value: (report: Report) => number): Samples =>
      new Samples(measured.map((reports) => reports.reduce((sum, report) => sum + value(report), 0)));
    return {
      benchCase,
      gibPerSecond: each((report) => report.get('bytes') / GIB / report.get('seconds')),
      generatorLoad: each((report) => report.get('generatorCpuSeconds') / report.get('seconds')),
      busiest: Math.max(
        ...benchCase.placements.flatMap((placement, index) => costsOf(placement, index, measured)),
      ),
    };
  });
  const rows = summaries.map(
    ({ benchCase: { pairs, name, placements }, gibPerSecond, generatorLoad, busiest }) => {
      const [single, sharing] = summaries.filter(({ benchCase }) => benchCase.pairs === pairs);
      const isOnTwo = placements.some(({ relays }) => relays.length > 1);
      return [
        String(pairs),
        name,
        gibPerSecond.format(2),
        ratio(gibPerSecond.median, single?.gibPerSecond.median),
        busiest.toFixed(3),
        (1 / busiest).toFixed(2),
        ratio(1 / busiest, 1 / (single?.busiest ?? Number.NaN)),
        isOnTwo ? ratio(1 / busiest, 1 / (sharing?.busiest ?? Number.NaN)) : '–',
        generatorLoad.median.toFixed(2),
      ];
    },
  );
  const header = [
    'pairs',
    'clients',
    'GiB/s',
    'of single relay',
    'CPU s/GiB of the busiest relay',
    'GiB/s with a core each',
    'of single relay',
    'of two relays on one core',
    'generator load',
  ];
  bench.print(formatTable('Cluster: throughput, bytes one way', header, rows));
  bench.print(NOTE);
}

/** The first two cases are the baselines of the others. */
function casesOf(cluster: BenchCluster, pairs: number): readonly Case[] {
  const [single, ...others] = placementsOf(cluster).map((placement) => ({
    pairs,
    name: placement.name,
    placements: [placement],
  }));
  const sharing = [cluster.first, cluster.second].map((peer) => ({
    name: '',
    peer,
    otherPort: peer.tcpPort,
    relays: [peer],
  }));
  const each = { pairs, name: 'on each of two relays', placements: sharing };
  return single === undefined ? [] : [single, each, ...others];
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
