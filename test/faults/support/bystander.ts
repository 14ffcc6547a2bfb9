import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { SIDE_A, SIDE_B, handshake, randomBytesOf } from '../../support/bytes.ts';
import { ProcessorClock } from './processor-clock.ts';
import type { Moment } from './processor-clock.ts';
import { WorkerClient } from './worker-client.ts';

/** Bytes of one ping. Odd, so that pings start at changing offsets of a buffer. */
const PING_BYTES = 1021;

/** Time from an echo to the next ping, in milliseconds. */
const PING_PAUSE_MS = 1;

/** Time from one new pair to the next, in milliseconds. */
const NEW_PAIR_PAUSE_MS = 100;

/** Duration of the measurement before an attack, in milliseconds. */
const UNDISTURBED_MS = 300;

/** Time for a new pair to be paired, in milliseconds. */
const NEW_PAIR_TIMEOUT_MS = 30_000;

/** Time for the thread to answer, in milliseconds. */
const ANSWER_TIMEOUT_MS = 60_000;

const OK = Buffer.from('ok\n');

export interface BystanderOptions {
  readonly port: number;
  /** The relay's process, whose run delay does not count as a stall. */
  readonly pid: number;
  /** The relay's address. */
  readonly host?: string;
  /** Clients connect from this address. */
  readonly localAddress?: string;
  /** Clients use TLS; the certificate is not checked. */
  readonly tls?: boolean;
}

/** Measurements of the pair and the new pairs over a period. */
export interface Measurement {
  readonly seconds: number;
  /** Round trips of the running pair: twice through the relay. A ping without an echo counts with its age. */
  readonly p50Ms: number;
  readonly maxMs: number;
  /** The longest round trip by a `ProcessorClock`. Limits apply to this, because `maxMs` depends on the machine. */
  readonly stallMs: number;
  readonly roundTrips: number;
  /** Time from the first connect to the second `ok`. */
  readonly newPairP50Ms: number;
  readonly newPairMaxMs: number;
  /** The longest time by a `ProcessorClock`. */
  readonly newPairStallMs: number;
  readonly newPairs: number;
  readonly newPairsFailed: number;
}

type Order = 'begin' | 'end' | 'finish';

/**
 * A pair of real clients in a separate thread. It exchanges bytes, compares each one, and measures round
 * trips. Meanwhile new pairs start and end continuously. A wrong byte, an early end, or a rejected pair fails
 * the test.
 */
export class Bystander implements AsyncDisposable {
  readonly #thread: WorkerClient<Order, unknown>;

  private constructor(options: BystanderOptions) {
    this.#thread = new WorkerClient(
      new URL(import.meta.url),
      { bystander: options },
      { name: 'the thread of the bystander', timeoutMs: ANSWER_TIMEOUT_MS },
    );
  }

  /** Resolves when the pair exchanges bytes. */
  static async start(options: BystanderOptions): Promise<Bystander> {
    const bystander = new Bystander(options);
    await bystander.#thread.started();
    return bystander;
  }

  measure(ms: number): Promise<Measurement> {
    return this.measureWhile(() => sleep(ms));
  }

  /** Measures before an attack, to compare. */
  measureUndisturbed(): Promise<Measurement> {
    return this.measure(UNDISTURBED_MS);
  }

  /** Measures until `action` is done. */
  async measureWhile(action: () => Promise<unknown>): Promise<Measurement> {
    await this.#thread.request('begin');
    await action();
    return this.#measurement();
  }

  /** Measures until there is enough, or until the time is up. */
  async measureUntil(isEnough: (soFar: Measurement) => Promise<boolean>): Promise<Measurement> {
    await this.#thread.request('begin');
    for (const deadline = performance.now() + ANSWER_TIMEOUT_MS; ; await sleep(NEW_PAIR_PAUSE_MS)) {
      const soFar = await this.#measurement();
      if ((await isEnough(soFar)) || performance.now() > deadline) return soFar;
    }
  }

  /** Ends the pair. Resolves with its bytes, both directions together, all compared. */
  async finish(): Promise<number> {
    return Number(await this.#thread.request('finish'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread.terminate();
  }

  async #measurement(): Promise<Measurement> {
    const measurement = await this.#thread.request('end');
    if (!isMeasurement(measurement)) throw new Error('the bystander sent no measurement');
    return measurement;
  }
}

/** Prints one row of the table of attacks; `grep 'ATTACK |'` finds all of them. */
export function reportAttack(
  context: TestContext,
  attack: string,
  idle: Measurement,
  during: Measurement,
  ...more: readonly string[]
): void {
  const cells = [
    'ATTACK',
    attack,
    `p50 ms ${idle.p50Ms.toFixed(1)} / ${during.p50Ms.toFixed(1)}`,
    `max ms ${idle.maxMs.toFixed(0)} / ${during.maxMs.toFixed(0)}`,
    `stall ms ${idle.stallMs.toFixed(0)} / ${during.stallMs.toFixed(0)}`,
    `new pair max ms ${idle.newPairMaxMs.toFixed(0)} / ${during.newPairMaxMs.toFixed(0)}`,
    `stall ms ${idle.newPairStallMs.toFixed(0)} / ${during.newPairStallMs.toFixed(0)}`,
    `new pairs failed ${idle.newPairsFailed} / ${during.newPairsFailed} of ${during.newPairs}`,
    ...more,
  ];
  context.diagnostic(cells.join(' | '));
}

function isMeasurement(value: unknown): value is Measurement {
  return typeof value === 'object' && value !== null && 'maxMs' in value && 'newPairMaxMs' in value;
}

// From here on: the thread.

/** One connection that has to receive `ok` first. */
class Client {
  readonly socket: Socket;
  #received: Buffer = Buffer.alloc(0);
  #isEnded = false;
  #wake: () => void = () => undefined;

  constructor({ port, host = '127.0.0.1', localAddress, tls = false }: BystanderOptions, line: string) {
    const address = { port, host, ...(localAddress === undefined ? {} : { localAddress }) };
    this.socket = tls
      ? connectTls({ ...address, rejectUnauthorized: false })
      : connect({ ...address, noDelay: true });
    this.socket.on('data', (bytes: Buffer) => {
      this.#received = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes]);
      this.#wake();
    });
    const ended = (): void => {
      this.#isEnded = true;
      this.#wake();
    };
    this.socket.on('end', ended).on('close', ended);
    // 'close' follows.
    this.socket.on('error', () => undefined);
    this.socket.write(line);
  }

  /** Throws unless the next bytes are these. */
  async expect(bytes: Uint8Array): Promise<void> {
    while (this.#received.length < bytes.length) {
      if (this.#isEnded) throw new Error(`the relay closed a connection of the bystander`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (!this.#received.subarray(0, bytes.length).equals(bytes)) throw new Error('wrong bytes');
    this.#received = this.#received.subarray(bytes.length);
  }

  async end(): Promise<void> {
    if (this.socket.destroyed) return;
    const closed = once(this.socket, 'close');
    this.socket.end();
    await closed;
  }
}

async function connectPair(options: BystanderOptions): Promise<[Client, Client]> {
  const token = randomBytes(32).toString('hex');
  const clients: [Client, Client] = [
    new Client(options, handshake(token, SIDE_A)),
    new Client(options, handshake(token, SIDE_B)),
  ];
  try {
    await Promise.all(clients.map((client) => client.expect(OK)));
    return clients;
  } catch (error) {
    for (const { socket } of clients) socket.destroy();
    throw error;
  }
}

/** Times of round trips, or of new pairs. */
class Times {
  readonly #clock: ProcessorClock;
  #elapsedMs: number[] = [];
  #stallMs = 0;
  #startedAt: Moment | null = null;

  constructor(clock: ProcessorClock) {
    this.#clock = clock;
  }

  get count(): number {
    return this.#elapsedMs.length;
  }

  /** Forgets all times. A running measurement starts again. */
  clear(): void {
    this.#elapsedMs = [];
    this.#stallMs = 0;
    if (this.#startedAt !== null) this.start();
  }

  start(): void {
    this.#startedAt = this.#clock.now();
  }

  /** Records the time since `start`. */
  stop(): void {
    this.#record(this.#elapsedMs);
    this.#startedAt = null;
  }

  /** Ends without a time. */
  cancel(): void {
    this.#startedAt = null;
  }

  /** What is running counts with its age. */
  summary(): { readonly p50Ms: number; readonly maxMs: number; readonly stallMs: number } {
    const all = [...this.#elapsedMs];
    this.#record(all);
    all.sort((one, other) => one - other);
    return { p50Ms: all[Math.floor(all.length / 2)] ?? 0, maxMs: all.at(-1) ?? 0, stallMs: this.#stallMs };
  }

  #record(elapsedMs: number[]): void {
    if (this.#startedAt === null) return;
    elapsedMs.push(performance.now() - this.#startedAt.wallMs);
    this.#stallMs = Math.max(this.#stallMs, this.#clock.elapsedMs(this.#startedAt));
  }
}

class Thread {
  readonly #options: BystanderOptions;
  readonly #pattern = randomBytesOf(1, 1_048_583);
  readonly #roundTrips: Times;
  readonly #newPairs: Times;
  #failed = 0;
  #began = performance.now();
  #isStopped = false;

  constructor(options: BystanderOptions) {
    this.#options = options;
    const clock = new ProcessorClock(options.pid);
    this.#roundTrips = new Times(clock);
    this.#newPairs = new Times(clock);
  }

  /** Runs until the order to finish. Returns the bytes of the pair. */
  async run(): Promise<number> {
    const [one, other] = await connectPair(this.#options);
    parentPort?.on('message', (order: Order) => this.#handle(order));
    parentPort?.postMessage('begun');
    const newPairs = this.#makeNewPairs();
    let bytes = 0;
    for (let position = 0; !this.#isStopped; position += PING_BYTES) {
      const start = position % (this.#pattern.length - PING_BYTES);
      const ping = this.#pattern.subarray(start, start + PING_BYTES);
      this.#roundTrips.start();
      one.socket.write(ping);
      await other.expect(ping);
      other.socket.write(ping);
      await one.expect(ping);
      this.#roundTrips.stop();
      bytes += 2 * PING_BYTES;
      await sleep(PING_PAUSE_MS);
    }
    await one.end();
    await other.end();
    await newPairs;
    return bytes;
  }

  #handle(order: Order): void {
    if (order === 'finish') {
      this.#isStopped = true;
    } else if (order === 'begin') {
      this.#began = performance.now();
      this.#failed = 0;
      for (const times of [this.#roundTrips, this.#newPairs]) times.clear();
      parentPort?.postMessage('begun');
    } else {
      parentPort?.postMessage(this.#measurement());
    }
  }

  #measurement(): Measurement {
    const { p50Ms, maxMs, stallMs } = this.#roundTrips.summary();
    const newPairs = this.#newPairs.summary();
    return {
      seconds: (performance.now() - this.#began) / 1000,
      p50Ms,
      maxMs,
      stallMs,
      roundTrips: this.#roundTrips.count,
      newPairP50Ms: newPairs.p50Ms,
      newPairMaxMs: newPairs.maxMs,
      newPairStallMs: newPairs.stallMs,
      newPairs: this.#newPairs.count + this.#failed,
      newPairsFailed: this.#failed,
    };
  }

  async #makeNewPairs(): Promise<void> {
    while (!this.#isStopped) {
      const timeout = new AbortController();
      this.#newPairs.start();
      try {
        const expired = sleep(NEW_PAIR_TIMEOUT_MS, null, { signal: timeout.signal }).catch(() => null);
        const clients = await Promise.race([connectPair(this.#options), expired]);
        if (clients === null) {
          this.#failed += 1;
        } else {
          this.#newPairs.stop();
          for (const client of clients) await client.end();
        }
      } catch {
        this.#failed += 1;
      }
      timeout.abort();
      this.#newPairs.cancel();
      await sleep(NEW_PAIR_PAUSE_MS);
    }
  }
}

function optionsOf(data: unknown): BystanderOptions | null {
  const isOurs = typeof data === 'object' && data !== null && 'bystander' in data;
  return isOurs ? Object.assign({ port: 0, pid: 0 }, data.bystander) : null;
}

const options = isMainThread ? null : optionsOf(workerData);
if (options !== null) {
  parentPort?.postMessage(await new Thread(options).run());
  parentPort?.close();
}
