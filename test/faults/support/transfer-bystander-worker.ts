import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import type { Answer, Order, Window, WorkerData } from './transfer-bystander.ts';
import { SIDE_A, SIDE_B, handshake, randomBytesOf } from '../../support/bytes.ts';

/** Period of the byte pattern: a prime, so that a lost piece of a usual size is noticed. */
const PATTERN_BYTES = 1_048_583;

/** Bytes of a write, and maximum bytes of a read. */
const PIECE_BYTES = 256 * 1024;

const PING_BYTES = 64;

/** Pause between an echo and the next ping, in milliseconds, so that pings add little load. */
const PING_PAUSE_MS = 1;

const OK = 'ok\n';

const once = randomBytesOf(1, PATTERN_BYTES);
const pattern = Buffer.concat([once, once.subarray(0, PIECE_BYTES)]);

/** Pattern bytes from that position; `length` is at most one piece. */
function bytesAt(position: number, length: number): Buffer {
  const start = position % PATTERN_BYTES;
  return pattern.subarray(start, start + length);
}

/**
 * One side of a pair. It must receive `ok` and then the pattern from its start; anything else ends the
 * worker.
 */
class Client {
  readonly socket: Socket;
  readonly paired = Promise.withResolvers<void>();
  readonly ended = Promise.withResolvers<void>();
  receivedBytes = 0;
  #answer = '';
  #mayEnd = false;

  constructor(port: number, line: string, received: (bytes: number) => void) {
    const onread = {
      buffer: Buffer.alloc(PIECE_BYTES),
      callback: (count: number, buffer: Uint8Array): boolean => {
        received(this.#check(buffer.subarray(0, count)));
        return true;
      },
    };
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true, onread });
    this.socket.on('error', (error) => {
      throw new Error('a connection of the bystander failed', { cause: error });
    });
    this.socket.on('end', () => {
      if (!this.#mayEnd) throw new Error('a pair of the bystander ended too early');
      this.ended.resolve();
    });
    this.socket.write(line);
  }

  expectEnd(): void {
    this.#mayEnd = true;
  }

  /** Compares the bytes and returns how many of them belong to the pattern. */
  #check(bytes: Uint8Array): number {
    const missing = OK.length - this.#answer.length;
    if (missing > 0) {
      this.#answer += Buffer.from(bytes.subarray(0, missing)).toString('latin1');
      if (!OK.startsWith(this.#answer)) throw new Error('the relay rejected the bystander');
      if (this.#answer === OK) this.paired.resolve();
    }
    const payload = bytes.subarray(Math.max(0, missing));
    if (!bytesAt(this.receivedBytes, payload.length).equals(payload))
      throw new Error(`wrong bytes for the bystander after ${this.receivedBytes} correct ones`);
    this.receivedBytes += payload.length;
    return payload.length;
  }
}

interface Pair {
  begin(): void;
  end(): Window;
  /** Resolves with the bytes that went through the pair, all of them correct. */
  finish(): Promise<number>;
}

/** Ends both directions and waits for their end. */
async function endPair(first: Client, second: Client): Promise<void> {
  first.expectEnd();
  second.expectEnd();
  first.socket.end();
  await second.ended.promise;
  second.socket.end();
  await first.ended.promise;
}

/** One direction at full speed. */
async function startBulk({ port, token }: WorkerData): Promise<Pair> {
  const sender = new Client(port, handshake(token, SIDE_A), () => undefined);
  const receiver = new Client(port, handshake(token, SIDE_B), () => undefined);
  await Promise.all([sender.paired.promise, receiver.paired.promise]);
  let sentBytes = 0;
  let isStopped = false;
  let since = { at: 0, bytes: 0 };
  const stopped = Promise.withResolvers<void>();
  const send = (): void => {
    if (isStopped) {
      stopped.resolve();
      return;
    }
    const piece = bytesAt(sentBytes, PIECE_BYTES);
    sentBytes += piece.length;
    sender.socket.write(piece, send);
  };
  send();
  return {
    begin: () => {
      since = { at: performance.now(), bytes: receiver.receivedBytes };
    },
    end: () => ({
      seconds: (performance.now() - since.at) / 1000,
      bytes: receiver.receivedBytes - since.bytes,
      latenciesMs: [],
    }),
    finish: async () => {
      isStopped = true;
      await stopped.promise;
      await endPair(sender, receiver);
      if (receiver.receivedBytes !== sentBytes)
        throw new Error(`the bystander received ${receiver.receivedBytes} of ${sentBytes} bytes`);
      return sentBytes;
    },
  };
}

/** A ping every few milliseconds, which the other side echoes. */
async function startPingPong({ port, token }: WorkerData): Promise<Pair> {
  let latenciesMs: number[] = [];
  let sentBytes = 0;
  let sentAt = 0;
  let began = 0;
  let isStopped = false;
  const stopped = Promise.withResolvers<void>();
  const ping = (): void => {
    if (isStopped) {
      stopped.resolve();
      return;
    }
    sentAt = performance.now();
    pinger.socket.write(bytesAt(sentBytes, PING_BYTES));
    sentBytes += PING_BYTES;
  };
  const pinger = new Client(port, handshake(token, SIDE_A), (bytes) => {
    if (bytes === 0 || pinger.receivedBytes < sentBytes) return;
    latenciesMs.push(performance.now() - sentAt);
    setTimeout(ping, PING_PAUSE_MS);
  });
  const echoer = new Client(port, handshake(token, SIDE_B), (bytes) => {
    if (bytes > 0) echoer.socket.write(bytesAt(echoer.receivedBytes - bytes, bytes));
  });
  await Promise.all([pinger.paired.promise, echoer.paired.promise]);
  ping();
  return {
    begin: () => {
      latenciesMs = [];
      began = performance.now();
    },
    end: () => {
      const now = performance.now();
      // A ping without an echo counts with its age.
      const open = pinger.receivedBytes < sentBytes ? [now - sentAt] : [];
      return { seconds: (now - began) / 1000, bytes: 0, latenciesMs: [...latenciesMs, ...open] };
    },
    finish: async () => {
      isStopped = true;
      await stopped.promise;
      await endPair(pinger, echoer);
      return sentBytes * 2;
    },
  };
}

async function serve(data: WorkerData): Promise<void> {
  const pair = await (data.role === 'bulk' ? startBulk(data) : startPingPong(data));
  const reply = (answer: Answer): void => parentPort?.postMessage(answer);
  parentPort?.on('message', (order: Order) => {
    if (order === 'begin') {
      pair.begin();
      reply({ kind: 'begun' });
    } else if (order === 'end') {
      reply({ kind: 'measured', window: pair.end() });
    } else {
      void pair.finish().then((bytes) => {
        reply({ kind: 'finished', bytes });
        parentPort?.close();
      });
    }
  });
  reply({ kind: 'begun' });
}

await serve(workerData);
