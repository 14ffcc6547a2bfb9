import { setTimeout as sleep } from 'node:timers/promises';
import { findProgram } from '../support/programs.ts';
import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { printDelayedThroughput } from './delayed-path.ts';
import { nextReport, startLoad } from './load.ts';
import { startHaproxy, startReference, startRelay } from './peers.ts';
import type { Peer, StartPeer } from './peers.ts';
import { allSocketsKiB, socketMemoryOf } from './socket-memory.ts';
import type { SocketMemory } from './socket-memory.ts';
import { Samples, formatTable } from './table.ts';
import {
  canSetTcpBuffers,
  composeTcpBuffers,
  currentTcpBuffers,
  maximumKiB,
  setTcpBuffers,
} from './tcp-buffers.ts';
import type { TcpBuffers } from './tcp-buffers.ts';

const PEERS: readonly StartPeer[] = [startRelay, startReference, startHaproxy];

const PAIRS = [10, 50, 200];
const QUICK_PAIRS = [10];

/** Long enough for the buffers to grow to their maximum size. */
const FAST_SECONDS = 4;
const QUICK_FAST_SECONDS = 1;

const SETTLE_MS = 500;
const END_TIMEOUT_MS = 60_000;

/**
 * Of a client, in bytes, about the maximum that Linux chooses. Fixed, because settings of a server do not limit its
 * clients.
 */
const CLIENT_BUFFERS = 4 * 2 ** 20;

const NOTE = `Sockets of the peer only: what a container is charged. The last column is a counter of the whole machine and includes the
generator's sockets. The kernel limits that counter: tcp_mem.
`;

interface Measurement extends SocketMemory {
  readonly allKiB: number;
}

/** Kernel memory of pairs that stall, and throughput over a long path, with the kernel's buffers and those of compose. */
export async function kernelMemory(bench: Bench): Promise<void> {
  const ss = findProgram('ss');
  if (ss === null) {
    bench.print('The scenario kernel-memory is left out: it needs ss (apt-get install iproute2).\n');
    return;
  }
  const kernels = currentTcpBuffers();
  const settings = [kernels];
  if (canSetTcpBuffers()) settings.push(composeTcpBuffers());
  else {
    bench.print(`Only the kernel's buffer sizes: others, and a path with a delay, need root in a network namespace of its own:
unshare --net sh -c 'ip link set lo up; npm run bench -- --only kernel-memory'
`);
  }
  try {
    await printStalled(bench, ss, settings);
    if (settings.length > 1) await printDelayedThroughput(bench, settings);
  } finally {
    if (settings.length > 1) setTcpBuffers(kernels);
  }
}

async function printStalled(bench: Bench, ss: string, settings: readonly TcpBuffers[]): Promise<void> {
  const counts = bench.quick ? QUICK_PAIRS : PAIRS;
  const cases = settings.flatMap((buffers) =>
    PEERS.flatMap((start) => counts.map((pairs) => ({ buffers, start, pairs }))),
  );
  const rounds = Math.min(bench.rounds, bench.quick ? 1 : 3);
  const results = await interleaved(cases, rounds, async ({ buffers, start, pairs }) => {
    if (settings.length > 1) setTcpBuffers(buffers);
    await using peer = await start(bench.programs);
    return peer === null ? null : { name: peer.name, ...(await measureStalled(bench, ss, peer, pairs)) };
  });
  const rows = results.flatMap(({ benchCase: { buffers, pairs }, measured }) => {
    const found = measured.filter((measurement) => measurement !== null);
    const [first] = found;
    if (first === undefined) return [];
    const perPair = (value: (measurement: Measurement) => number): Samples =>
      new Samples(found.map((measurement) => value(measurement) / pairs));
    return [
      [
        maximumKiB(buffers.tcp_rmem),
        maximumKiB(buffers.tcp_wmem),
        first.name,
        String(pairs),
        perPair(({ receiveKiB, sendKiB }) => receiveKiB + sendKiB).format(0),
        perPair(({ receiveKiB }) => receiveKiB).median.toFixed(0),
        perPair(({ sendKiB }) => sendKiB).median.toFixed(0),
        perPair(({ allKiB }) => allKiB).median.toFixed(0),
      ],
    ];
  });
  const header = [
    'tcp_rmem KiB',
    'tcp_wmem KiB',
    'peer',
    'pairs',
    'KiB each',
    'receive queues',
    'send queues',
    'with generator',
  ];
  bench.print(formatTable('Kernel memory of pairs that stall after full speed, bytes one way', header, rows));
  bench.print(NOTE);
}

/** In a new process, because listeners keep the buffer sizes with which they were created. */
async function measureStalled(bench: Bench, ss: string, peer: Peer, pairs: number): Promise<Measurement> {
  const before = allSocketsKiB();
  await using load = startLoad(bench.programs, 'stall', peer, {
    pairs,
    warmUp: bench.quick ? QUICK_FAST_SECONDS : FAST_SECONDS,
    buffers: CLIENT_BUFFERS,
  });
  await nextReport(load);
  await sleep(SETTLE_MS);
  const measurement = { ...socketMemoryOf(ss, peer.pid), allKiB: allSocketsKiB() - before };
  load.endInput();
  await load.succeeds(END_TIMEOUT_MS);
  return measurement;
}
