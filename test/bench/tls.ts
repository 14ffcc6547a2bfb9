import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { runBulk, summarise } from './bulk.ts';
import type { Bulk } from './bulk.ts';
import { measureMemory } from './memory.ts';
import type { MemoryCase } from './memory.ts';
import { startAll, startNodePipe, startOpenssl, startTlsRelay } from './peers.ts';
import { Samples, formatTable, ratio } from './table.ts';

/** The first choice of OpenSSL and of Node. The load generator offers no other suite, so all peers use it. */
const SUITE = 'TLS_AES_256_GCM_SHA384';

const PEERS = [
  { name: 'relay', start: startTlsRelay },
  { name: 'node pipe', start: startNodePipe },
  { name: 'c-openssl', start: startOpenssl },
] as const;

const COMBINATIONS = [
  { pairs: 1, from: 'tls', to: 'tls' },
  { pairs: 1, from: 'tls', to: 'tcp' },
  { pairs: 1, from: 'tcp', to: 'tls' },
  { pairs: 1, from: 'wss', to: 'wss' },
  { pairs: 16, from: 'tls', to: 'tls' },
] as const;

const WAITING = 1000;
const STALLED_PAIRS = 200;

const MEMORY: readonly (MemoryCase & { readonly connections: number })[] = [
  {
    what: 'waiting client',
    connections: WAITING,
    mode: 'wait',
    options: { pairs: WAITING, from: 'tls', to: 'tls', suite: SUITE },
  },
  {
    what: 'client of a stalled pair',
    connections: 2 * STALLED_PAIRS,
    mode: 'stall',
    options: { pairs: STALLED_PAIRS, from: 'tls', to: 'tls', suite: SUITE },
  },
];

/** TLS through our relay, a minimal relay in Node and a loop over OpenSSL in C. */
export async function tls(bench: Bench): Promise<void> {
  if (bench.programs.opensslForwarder === null) {
    bench.print(
      "The scenario tls is left out: OpenSSL's headers are missing (apt-get install libssl-dev).\n",
    );
    return;
  }
  await printThroughput(bench);
  await printMemory(bench);
}

async function printThroughput(bench: Bench): Promise<void> {
  await using peers = await startAll(
    bench.programs,
    PEERS.map(({ start }) => start),
  );
  const cases = COMBINATIONS.flatMap((combination) =>
    peers.all
      .filter(({ websocketPort }) => combination.from !== 'wss' || websocketPort !== null)
      .map((peer) => ({ combination, peer })),
  );
  const results = await interleaved(cases, bench.rounds, ({ peer, combination }) =>
    runBulk(bench, peer, { ...combination, suite: SUITE }),
  );
  const summaries = results.map(({ benchCase, measured }) => ({ benchCase, bulk: summarise(measured) }));
  const rows = summaries.map(({ benchCase, bulk }) => {
    const { peer, combination } = benchCase;
    const beside = (name: string): Bulk | undefined =>
      summaries.find(
        (other) => other.benchCase.peer.name === name && other.benchCase.combination === combination,
      )?.bulk;
    const [nodePipe, openssl] = [beside('node pipe'), beside('c-openssl')];
    const speed = bulk.gibPerSecond.median;
    const cpu = bulk.cpuSecondsPerGib.median;
    return [
      String(combination.pairs),
      peer.name,
      `${combination.from} to ${combination.to}`,
      bulk.gibPerSecond.format(2),
      bulk.cpuSecondsPerGib.format(2),
      ratio(speed, nodePipe?.gibPerSecond.median),
      ratio(cpu, nodePipe?.cpuSecondsPerGib.median),
      ratio(speed, openssl?.gibPerSecond.median),
      ratio(cpu, openssl?.cpuSecondsPerGib.median),
      bulk.generatorLoad.median.toFixed(2),
    ];
  });
  const header = [
    'pairs',
    'peer',
    'transports',
    'GiB/s',
    'CPU s/GiB',
    'of node pipe',
    'CPU of node pipe',
    'of c-openssl',
    'CPU of c-openssl',
    'generator load',
  ];
  bench.print(formatTable(`TLS 1.3 with ${SUITE}, bytes one way`, header, rows));
}

async function printMemory(bench: Bench): Promise<void> {
  const rounds = bench.quick ? 1 : Math.min(bench.rounds, 3);
  const cases = MEMORY.flatMap((memory) => PEERS.map((peer) => ({ memory, peer })));
  const results = await interleaved(cases, rounds, ({ memory, peer }) =>
    measureMemory(bench, memory, () => peer.start(bench.programs)),
  );
  const rows = results.map(({ benchCase: { memory, peer }, measured }) => [
    memory.what,
    String(memory.connections),
    peer.name,
    new Samples(measured.map(({ grown }) => grown / memory.connections)).format(1),
  ]);
  const header = ['what', 'how many', 'peer', 'KiB each'];
  bench.print(formatTable('TLS: resident set of a peer, a new process each time', header, rows));
}
