import { readFileSync } from 'node:fs';
import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { runLoad } from './load.ts';
import type { Report } from './load.ts';
import { startAll, startEpollRelay, startReference, startRelay } from './peers.ts';
import type { Peer } from './peers.ts';
import { Samples, formatTable, ratio } from './table.ts';

/**
 * Two connections each. The first number fits into the reference's listen backlog of 50, so that no client
 * waits for a retry; the second exceeds it, like a burst of clients.
 */
export const PAIRS_AT_ONCE = [20, 200] as const;

const BURST_PAIRS = 500;

/** A client whose SYN was dropped three times connects after 7 s. */
const BURST_SECONDS = 8;
const QUICK_BURST_SECONDS = 2;

/** System-wide counters of connections that the kernel dropped or retried. */
const COUNTERS = ['ListenOverflows', 'ListenDrops', 'TCPSynRetrans', 'TCPTimeouts'] as const;

/** Connect, handshake, match and close, repeatedly; and a burst of a thousand clients. */
export async function connections(bench: Bench): Promise<void> {
  await using peers = await startAll(bench.programs, [startRelay, startReference, startEpollRelay]);
  for (const pairs of PAIRS_AT_ONCE) await printRates(bench, peers.all, pairs);
  await printBursts(bench, peers.all);
}

export function runCycles(bench: Bench, peer: Peer, pairs: number): Promise<Report> {
  const { warmUp, seconds, programs } = bench;
  return runLoad(programs, 'cycles', peer, { warmUp, seconds, pairs });
}

async function printRates(bench: Bench, peers: readonly Peer[], pairs: number): Promise<void> {
  const results = await interleaved(peers, bench.rounds, (peer) => runCycles(bench, peer, pairs));
  const summaries = results.map(({ benchCase, measured }) => {
    const each = (value: (report: Report) => number): Samples => new Samples(measured.map(value));
    return {
      name: benchCase.name,
      rate: each((report) => report.get('pairs') / report.get('seconds')),
      cpuMicroseconds: each((report) => (report.get('cpuSeconds') / report.get('pairs')) * 1e6),
      generatorLoad: each((report) => report.get('generatorCpuSeconds') / report.get('seconds')),
      retried: each((report) => report.get('retried')),
    };
  });
  const reference = summaries.find(({ name }) => name === 'reference');
  const epollRelay = summaries.find(({ name }) => name === 'c-relay');
  const rows = summaries.map(({ name, rate, cpuMicroseconds, generatorLoad, retried }) => [
    name,
    rate.format(0),
    cpuMicroseconds.format(0),
    ratio(rate.median, reference?.rate.median),
    ratio(cpuMicroseconds.median, reference?.cpuMicroseconds.median),
    ratio(cpuMicroseconds.median, epollRelay?.cpuMicroseconds.median),
    retried.maximum.toFixed(0),
    generatorLoad.median.toFixed(2),
  ]);
  const header = [
    'peer',
    'pairs/s',
    'CPU µs/pair',
    'of reference',
    'CPU of reference',
    'CPU of c-relay',
    'SYN retries',
    'generator load',
  ];
  bench.print(formatTable(`Connect, handshake, match, close: ${pairs} pairs at once`, header, rows));
}

async function printBursts(bench: Bench, peers: readonly Peer[]): Promise<void> {
  const rounds = bench.quick ? 1 : bench.rounds;
  const seconds = bench.quick ? QUICK_BURST_SECONDS : BURST_SECONDS;
  const results = await interleaved(peers, rounds, async (peer) => {
    const before = tcpCounters();
    const report = await runLoad(bench.programs, 'burst', peer, {
      pairs: BURST_PAIRS,
      seconds: BURST_SECONDS,
    });
    const after = tcpCounters();
    return { report, grown: COUNTERS.map((name) => (after.get(name) ?? 0) - (before.get(name) ?? 0)) };
  });
  const rows = results.map(({ benchCase, measured }) => {
    const each = (name: string): Samples => new Samples(measured.map(({ report }) => report.get(name)));
    const row = [
      benchCase.name,
      each('seconds').format(2),
      each('slowestConnectSeconds').format(3),
      each('retried').format(0),
      each('unpaired').format(0),
    ];
    for (const index of COUNTERS.keys()) {
      const counter = new Samples(measured.map(({ grown }) => grown[index] ?? Number.NaN));
      row.push(counter.median.toFixed(0));
    }
    return row;
  });
  const header = [
    'peer',
    'seconds',
    'slowest connect s',
    'clients that took 0.9 s',
    `unpaired after ${seconds} s`,
    ...COUNTERS,
  ];
  bench.print(formatTable(`A burst of ${2 * BURST_PAIRS} clients`, header, rows));
}

function tcpCounters(): ReadonlyMap<string, number> {
  const [names = [], values = []] = readFileSync('/proc/net/netstat', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('TcpExt: '))
    .map((line) => line.split(' '));
  return new Map(names.map((name, index) => [name, Number(values[index])]));
}
