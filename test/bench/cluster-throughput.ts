import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { GIB, runBulk, summarise } from './bulk.ts';
import { waysOf } from './cluster-ways.ts';
import type { Way } from './cluster-ways.ts';
import type { Site } from './cluster.ts';
import type { Report } from './load.ts';
import { Samples, formatTable, ratio } from './table.ts';

const NOTE = `All relays have one core together, so that a pair on two gets half of it at each. \`with a core each\` is computed: what the
busiest relay's CPU allows.
`;

/** A pair on two relays beside one on a single relay, bytes one way. */
export async function groupThroughput(bench: Bench, site: Site): Promise<void> {
  const ways = waysOf(site);
  const cases = [1, 16].flatMap((pairs) => ways.map((way) => ({ pairs, way })));
  const results = await interleaved(cases, bench.rounds, ({ pairs, way: { peer, otherPort, relays } }) =>
    runBulk(bench, peer, { pairs, otherPort, pids: relays.map(({ pid }) => pid).join(',') }),
  );
  const summaries = results.map(({ which, measured }) => {
    return { which, bulk: summarise(measured), busiest: busiestCpuSecondsPerGib(which.way, measured) };
  });
  const rows = summaries.map(({ which: { pairs, way }, bulk, busiest }) => {
    const local = summaries.find(({ which }) => which.pairs === pairs);
    return [
      String(pairs),
      way.name,
      bulk.gibPerSecond.format(2),
      bulk.cpuSecondsPerGib.format(2),
      busiest.toFixed(2),
      ratio(bulk.gibPerSecond.median, local?.bulk.gibPerSecond.median),
      (1 / busiest).toFixed(2),
      ratio(1 / busiest, 1 / (local?.busiest ?? Number.NaN)),
      bulk.generatorLoad.median.toFixed(2),
    ];
  });
  const header = [
    'pairs',
    'clients',
    'GiB/s',
    'CPU s/GiB of relays',
    'of the busiest',
    'of one alone',
    'GiB/s with a core each',
    'of one alone',
    'generator load',
  ];
  bench.print(formatTable('A group: throughput, bytes one way', header, rows));
  bench.print(NOTE);
}

/** Each relay's median over all rounds, of the one that has most to do. */
function busiestCpuSecondsPerGib({ relays }: Way, reports: readonly Report[]): number {
  const each = relays.map((_, index) => {
    const costs = reports.map((report) => (report.get(`cpuSeconds${index}`) * GIB) / report.get('bytes'));
    return new Samples(costs).median;
  });
  return Math.max(...each);
}
