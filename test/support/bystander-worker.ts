import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import type { Answer, Order, Window, WorkerData } from './bystander.ts';
import { SIDE_A, SIDE_B, handshake, randomBytesOf } from './bytes.ts';

/** The bytes repeat after so many: a prime, so that no piece of a size that programs like can go missing unseen. */
const PATTERN_BYTES = 1_048_583;

/** Bytes of a write, and of a read at most. */
const PIECE_BYTES = 256 * 1024;

const PING_BYTES = 64;

/** Time from an answer to the next ping, in milliseconds: a question now and then, not one more load. */
const PING_PAUSE_MS = 1;

const OK = 'ok\n';

const once = randomBytesOf(1, PATTERN_BYTES);
const pattern = Buffer.concat([once, once.subarray(0, PIECE_BYTES)]);

/** What is at that place of the stream; `length` is a piece at most. */
function bytesAt(position: number, length: number): Buffer {
  const start = position % PATTERN_BYTES;
  return pattern.subarray(start, start + length);
}

/** One side of a pair. What it receives has to be `ok` and then the pattern from its beginning; all else ends the worker. */
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
      throw new Error('a pair of the bystander broke', { cause: error });
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

  /** Compares, and returns how many bytes of the pattern there were. */
  #check(bytes: Uint8Array): number {
    const missing = OK.length - this.#answer.length;
    if (missing > 0) {
      this.#answer += Buffer.from(bytes.subarray(0, missing)).toString('latin1');
      if (!OK.startsWith(this.#answer)) throw new Error('the relay refused the bystander');
      if (this.#answer === OK) this.paired.resolve();
    }
    const payload = bytes.subarray(Math.max(0, missing));
    if (!bytesAt(this.receivedBytes, payload.length).equals(payload))
      throw new Error(`wrong bytes for the bystander, after ${this.receivedBytes} right ones`);
    this.receivedBytes += payload.length;
    return payload.length;
  }
}

interface Pair {
  begin(): void;
  end(): Window;
  /** Resolves with the bytes that went through the pair, all of them right. */
  finish(): Promise<number>;
}

/** Ends both directions, and waits for that. */
async function endPair(first: Client, second: Client): Promise<void> {
  first.expectEnd();
  second.expectEnd();
  first.socket.end();
  await second.ended.promise;
  second.socket.end();
  await first.ended.promise;
}

/** One direction, flat out. */
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
        throw new Error(`of ${sentBytes} bytes of the bystander ${receiver.receivedBytes} came`);
      return sentBytes;
    },
  };
}

/** A question now and then, which the other side answers with the same bytes. */
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
    asking.socket.write(bytesAt(sentBytes, PING_BYTES));
    sentBytes += PING_BYTES;
  };
  const asking = new Client(port, handshake(token, SIDE_A), (bytes) => {
    if (bytes === 0 || asking.receivedBytes < sentBytes) return;
    latenciesMs.push(performance.now() - sentAt);
    setTimeout(ping, PING_PAUSE_MS);
  });
  const answering = new Client(port, handshake(token, SIDE_B), (bytes) => {
    if (bytes > 0) answering.socket.write(bytesAt(answering.receivedBytes - bytes, bytes));
  });
  await Promise.all([asking.paired.promise, answering.paired.promise]);
  ping();
  return {
    begin: () => {
      latenciesMs = [];
      began = performance.now();
    },
    end: () => {
      const now = performance.now();
      // A question that is still open has taken so long at least.
      const open = asking.receivedBytes < sentBytes ? [now - sentAt] : [];
      return { seconds: (now - began) / 1000, bytes: 0, latenciesMs: [...latenciesMs, ...open] };
    },
    finish: async () => {
      isStopped = true;
      await stopped.promise;
      await endPair(asking, answering);
      return sentBytes * 2;
    },
  };
}

async function serve(data: WorkerData): Promise<void> {
  const pair = await (data.role === 'bulk' ? startBulk(data) : startPingPong(data));
  const answer = (said: Answer): void => parentPort?.postMessage(said);
  parentPort?.on('message', (order: Order) => {
    if (order === 'begin') {
      pair.begin();
      answer({ kind: 'begun' });
    } else if (order === 'end') {
      answer({ kind: 'measured', window: pair.end() });
    } else {
      void pair.finish().then((bytes) => {
        answer({ kind: 'finished', bytes });
        parentPort?.close();
      });
    }
  });
  answer({ kind: 'begun' });
}

await serve(workerData);
