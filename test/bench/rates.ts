import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { coresUsed } from '../support/vitals.ts';
import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { GIB, runBulk, summarise } from './bulk.ts';
import { PINNED } from './cores.ts';
import { Peers } from './peers.ts';
import type { Peer } from './peers.ts';
import { Samples, formatTable, ratio } from './table.ts';

const RATES = [
  { text: '1MB/s', bytesPerSecond: 1e6 },
  { text: '20MB/s', bytesPerSecond: 20e6 },
  { text: '100Mbit/s', bytesPerSecond: 12.5e6 },
  { text: '200MB/s', bytesPerSecond: 200e6 },
  { text: '1GB/s', bytesPerSecond: 1e9 },
] as const;

const QUICK_RATES = RATES.filter(({ text }) => text !== '20MB/s' && text !== '200MB/s');

const PAIRS = [1, 2, 50];

/** Above this the machine is the limit, in bytes per second. */
const MAX_BYTES_PER_SECOND = 1e9;

/** The period over which a rate must be met, in seconds. */
const SECONDS = 5;
const QUICK_SECONDS = 2;

/** Time for all pairs to reach their long-term rate, in seconds. */
const WARM_UP_SECONDS = 1;

const ROUNDS = 3;

/** Bytes of a write and a read: large, because clients are not measured. */
const CHUNK_BYTES = 262_144;

const OK_BYTES = 3;

/** A rate that no machine reaches. */
const UNREACHABLE_RATE = '100GB/s';

const VARIABLES = ['RELAY_TOTAL_RATE', 'RELAY_PAIR_RATE'] as const;

interface Case {
  readonly peer: Peer;
  readonly pairs: number;
  /** Total limit of all pairs. */
  readonly bytesPerSecond: number;
}

interface Measurement {
  readonly bytesPerSecond: number;
  /** Rate of the slowest pair divided by that of the fastest. */
  readonly fairness: number;
  readonly cores: number;
  readonly generatorCores: number;
}

/** Accuracy and fairness of rate limits, and their cost. */
export async function rates(bench: Bench): Promise<void> {
  for (const variable of VARIABLES) await printCaps(bench, variable);
  await printCost(bench);
}

async function printCaps(bench: Bench, variable: (typeof VARIABLES)[number]): Promise<void> {
  await using peers = new Peers();
  const cases: Case[] = [];
  for (const { text, bytesPerSecond } of bench.quick ? QUICK_RATES : RATES) {
    const peer = await startWith(text, { [variable]: text });
    peers.add(peer);
    for (const pairs of PAIRS) {
      const ofAll = variable === 'RELAY_PAIR_RATE' ? pairs * bytesPerSecond : bytesPerSecond;
      if (ofAll <= MAX_BYTES_PER_SECOND) cases.push({ peer, pairs, bytesPerSecond: ofAll });
    }
  }
  const seconds = bench.quick ? QUICK_SECONDS : SECONDS;
  const rounds = bench.quick ? 1 : Math.min(bench.rounds, ROUNDS);
  const results = await interleaved(cases, rounds, (benchCase) => measure(benchCase, seconds));
  const rows = results.map(({ benchCase, measured }) => {
    const each = (value: (measurement: Measurement) => number): Samples => new Samples(measured.map(value));
    return [
      benchCase.peer.name,
      String(benchCase.pairs),
      each(({ bytesPerSecond }) => bytesPerSecond / 1e6).median.toFixed(2),
      each(({ bytesPerSecond }) => bytesPerSecond / benchCase.bytesPerSecond).format(3),
      benchCase.pairs === 1 ? '–' : each(({ fairness }) => fairness).format(2),
      each(({ cores }) => cores).median.toFixed(3),
      each(({ cores, bytesPerSecond }) => (cores * GIB) / bytesPerSecond).median.toFixed(2),
      each(({ generatorCores }) => generatorCores).median.toFixed(2),
    ];
  });
  const header = [
    'rate',
    'pairs',
    'MB/s of all',
    'of limit',
    'slowest pair / fastest',
    'CPU s/s',
    'CPU s/GiB',
    'generator load',
  ];
  bench.print(
    formatTable(`${variable} over ${seconds} s, every other pair with two directions`, header, rows),
  );
}

async function printCost(bench: Bench): Promise<void> {
  await using peers = new Peers();
  // The first case runs twice: its difference is the noise of the machine.
  const settings: readonly (readonly [name: string, settings: Readonly<Record<string, string>>])[] = [
    ['no rate', {}],
    ['no rate, again', {}],
    [`total of ${UNREACHABLE_RATE}`, { RELAY_TOTAL_RATE: UNREACHABLE_RATE }],
    [`${UNREACHABLE_RATE} for each pair`, { RELAY_PAIR_RATE: UNREACHABLE_RATE }],
    ['both', { RELAY_TOTAL_RATE: UNREACHABLE_RATE, RELAY_PAIR_RATE: UNREACHABLE_RATE }],
  ];
  for (const [name, values] of settings) peers.add(await startWith(name, values));
  const cases = [1, 16].flatMap((pairs) => peers.all.map((peer) => ({ pairs, peer })));
  const results = await interleaved(cases, bench.rounds, ({ peer, pairs }) =>
    runBulk(bench, peer, { pairs }),
  );
  const summaries = results.map(({ benchCase, measured }) => ({ benchCase, bulk: summarise(measured) }));
  const rows = summaries.map(({ benchCase: { pairs, peer }, bulk }) => {
    const unlimited = summaries.find(({ benchCase }) => benchCase.pairs === pairs)?.bulk;
    return [
      String(pairs),
      peer.name,
      bulk.gibPerSecond.format(2),
      bulk.cpuSecondsPerGib.format(3),
      ratio(bulk.gibPerSecond.median, unlimited?.gibPerSecond.median),
      ratio(bulk.cpuSecondsPerGib.median, unlimited?.cpuSecondsPerGib.median),
      bulk.generatorLoad.median.toFixed(2),
    ];
  });
  const header = ['pairs', 'rate', 'GiB/s', 'CPU s/GiB', 'of no rate', 'CPU of no rate', 'generator load'];
  bench.print(formatTable('The cost of rates that are never met, bytes one way', header, rows));
}

async function startWith(name: string, settings: Readonly<Record<string, string>>): Promise<Peer> {
  const relay = await RelayProcess.start(settings, PINNED.peer);
  return {
    name,
    pid: relay.pid,
    tcpPort: relay.port('raw'),
    websocketPort: null,
    tlsPort: null,
    sinkPort: null,
    [Symbol.asyncDispose]: () => relay.stop(),
  };
}

/** Not with the generator in C: it waits for everything that was sent, which takes minutes at a low rate. */
async function measure({ peer, pairs: count }: Case, seconds: number): Promise<Measurement> {
  using pairs = new DisposableStack();
  const openPairs: Pair[] = [];
  for (let index = 0; index < count; index += 1) {
    openPairs.push(pairs.use(await Pair.start(peer.tcpPort, index % 2 === 1)));
  }
  await sleep(WARM_UP_SECONDS * 1000);
  const bytesBefore = openPairs.map((pair) => pair.receivedBytes);
  const startedAt = performance.now();
  const cpuBefore = process.cpuUsage();
  const cores = await coresUsed(peer.pid, seconds * 1000);
  const elapsedSeconds = (performance.now() - startedAt) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  const bytes = openPairs.map((pair, index) => pair.receivedBytes - (bytesBefore[index] ?? 0));
  if (openPairs.some((pair) => pair.hasEnded)) throw new Error('the relay ended a pair that runs');
  return {
    bytesPerSecond: bytes.reduce((sum, more) => sum + more, 0) / elapsedSeconds,
    fairness: Math.min(...bytes) / Math.max(...bytes),
    cores,
    generatorCores: (user + system) / 1e6 / elapsedSeconds,
  };
}

/** Source of all sent bytes and destination of all received ones; their content does not matter. */
const chunk = Buffer.alloc(CHUNK_BYTES);

/** Two clients that send as fast as possible and count received bytes. */
class Pair implements Disposable {
  receivedBytes = 0;
  hasEnded = false;
  readonly #sockets: readonly Socket[];

  private constructor(port: number) {
    const onread = {
      buffer: chunk,
      callback: (bytes: number): boolean => {
        this.receivedBytes += bytes;
        return true;
      },
    };
    this.#sockets = [SIDE_A, SIDE_B].map(() => connect({ host: '127.0.0.1', port, noDelay: true, onread }));
    for (const socket of this.#sockets) {
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.hasEnded = true;
      });
    }
  }

  /** @param both whether the second client sends too */
  static async start(port: number, both: boolean): Promise<Pair> {
    const pair = new Pair(port);
    const [sender, receiver] = pair.#sockets;
    if (sender === undefined || receiver === undefined) throw new Error('no sockets');
    const token = newToken();
    await Promise.all([once(sender, 'connect'), once(receiver, 'connect')]);
    sender.write(handshake(token, SIDE_A));
    receiver.write(handshake(token, SIDE_B));
    while (pair.receivedBytes < 2 * OK_BYTES) {
      if (pair.hasEnded) throw new Error('the relay does not pair its clients');
      await sleep(1);
    }
    send(sender);
    if (both) send(receiver);
    return pair;
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** Writes until the socket is destroyed. */
function send(socket: Socket): void {
  socket.write(chunk, (error) => {
    if (error === undefined || error === null) send(socket);
  });
}
