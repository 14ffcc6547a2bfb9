import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import type { BenchCluster } from './cluster.ts';
import { PAIRS_AT_ONCE } from './connections.ts';
import { runLoad } from './load.ts';
import type { Report } from './load.ts';
import type { Peer } from './peers.ts';
import { Samples, formatTable, ratio } from './table.ts';

const [PAIRS] = PAIRS_AT_ONCE;

/**
 * Short, in seconds: where the kernel tracks connections (for Docker, for example), each one stays in the
 * table for two minutes, and connections beyond its size are dropped.
 */
const SECONDS = 0.5;
const WARM_UP_SECONDS = 0.2;

const NOTE = `All relays share one core; the generator and the coordinator share the other. So \`pairs/s\` falls with the number of
relays, and shows the cost of a pair. \`with a core each\` is computed: relays / CPU time of a pair.
`;

/** Rounds that do not count: forwarding takes three times as long until its code is compiled. */
const COLD_ROUNDS = 2;

/** Connect, handshake, match and close, with each client at a random relay. */
export async function clusterPairs(
  bench: Bench,
  { single, first, second, third, coordinator }: BenchCluster,
): Promise<void> {
  const cases: readonly { readonly name: string; readonly relays: readonly Peer[] }[] = [
    { name: 'single relay', relays: [single] },
    { name: 'one of a cluster', relays: [first] },
    { name: 'two of a cluster', relays: [first, second] },
    { name: 'three of a cluster', relays: [first, second, third] },
  ];
  const results = await interleaved(
    cases,
    COLD_ROUNDS + bench.rounds,
    ({ relays: [relay = single, ...others] }) => {
      const relays = [relay, ...others];
      return runLoad(bench.programs, 'cycles', relay, {
        warmUp: WARM_UP_SECONDS,
        seconds: SECONDS,
        pairs: PAIRS,
        ports: relays.map(({ tcpPort }) => tcpPort).join(','),
        pids: [coordinator, ...relays].map(({ pid }) => pid).join(','),
      });
    },
  );
  const summaries = results.map(({ benchCase: { name, relays }, measured }) => {
    const each = (value: (report: Report) => number): Samples =>
      new Samples(measured.slice(COLD_ROUNDS).map(value));
    const microseconds = (cpuSeconds: (report: Report) => number): Samples =>
      each((report) => (cpuSeconds(report) / report.get('pairs')) * 1e6);
    return {
      name,
      relays: relays.length,
      rate: each((report) => report.get('pairs') / report.get('seconds')),
      relaysCpu: microseconds((report) => report.get('cpuSeconds') - report.get('cpuSeconds0')),
      coordinatorCpu: microseconds((report) => report.get('cpuSeconds0')),
      onTwoRelays: each((report) => report.get('onTwoRelays') / report.get('pairs')),
      generatorLoad: each((report) => report.get('generatorCpuSeconds') / report.get('seconds')),
      retried: each((report) => report.get('retried')),
    };
  });
  const [base] = summaries;
  const rows = summaries.map((summary) => [
    summary.name,
    summary.rate.format(0),
    summary.onTwoRelays.median.toFixed(2),
    summary.relaysCpu.format(0),
    ratio(summary.relaysCpu.median, base?.relaysCpu.median),
    summary.coordinatorCpu.median.toFixed(0),
    ((summary.relays / summary.relaysCpu.median) * 1e6).toFixed(0),
    summary.retried.maximum.toFixed(0),
    summary.generatorLoad.median.toFixed(2),
  ]);
  const header = [
    'relays with clients',
    'pairs/s',
    'on two relays',
    'CPU µs/pair of relays',
    'of single relay',
    'of the coordinator',
    'pairs/s with a core each',
    'SYN retries',
    'generator load',
  ];
  bench.print(formatTable(`Cluster: connect, handshake, match, close; ${PAIRS} pairs at once`, header, rows));
  bench.print(NOTE);
}
