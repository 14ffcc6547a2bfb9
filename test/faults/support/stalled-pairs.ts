import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';

/**
 * Pairs that send in both directions, and then stop reading, next to a transfer that runs all the time. Run as
 * `node stalled-pairs.ts PORT COUNT`; COUNT is the most, if the relay accepts as many. It prints lines of JSON:
 * `{ pairs, connected, transferred }` when the pairs have stalled, with the number of their connections that are
 * still open, and the bytes of the transfer since the pairs began to stall, 0 if it was ended; and `{ exchanged }`,
 * the bytes that a new pair receives.
 */

/** How long the pairs read, in milliseconds: long enough for the kernel to enlarge the buffers. */
const FULL_SPEED_MS = 3000;

/** Bytes that all pairs send in a tick. Together 64 MB/s: half of a link of 1 Gbit/s. */
const BYTES_PER_TICK = 640 * 1024;

const TICK_MS = 10;

/** The pairs have stalled when they have sent nothing for so long, in milliseconds. */
const STALLED_MS = 1500;

const PIECE = Buffer.alloc(16 * 1024);

/** Bytes that the receiver of the transfer reads between two pauses of `RECEIVER_PAUSE_MS`. */
const RECEIVER_BYTES = 256 * 1024;

const RECEIVER_PAUSE_MS = 50;

/** Bytes that the new pair exchanges. */
const EXCHANGED_BYTES = 100_000;

type Pair = readonly [Socket, Socket];

/** Null if the relay rejects a client of it. */
async function connectPair(port: number): Promise<Pair | null> {
  const token = newToken();
  const one = connect(port, '127.0.0.1');
  const other = connect(port, '127.0.0.1');
  const replies = await Promise.all(
    (
      [
        [one, SIDE_A],
        [other, SIDE_B],
      ] as const
    ).map(([socket, side]) => {
      socket.on('error', () => undefined);
      socket.write(handshake(token, side));
      return replyTo(socket);
    }),
  );
  if (replies.every((reply) => reply.startsWith('ok'))) return [one, other];
  one.destroy();
  other.destroy();
  return null;
}

/** Empty if the connection is closed before. */
async function replyTo(socket: Socket): Promise<string> {
  const data = once(socket, 'data').then(([bytes]) => String(bytes));
  const closed = once(socket, 'close').then(() => '');
  // A rejected partner leaves the other client waiting.
  return Promise.race([data, closed, sleep(5000).then(() => '')]);
}

/** A transfer whose receiver is slower than its sender, so that the relay pauses the sender again and again. */
class Transfer {
  bytes = 0;
  readonly #pair: Pair;

  constructor(pair: Pair) {
    this.#pair = pair;
    const [sender, receiver] = pair;
    const send = (): void => {
      while (sender.writable && sender.write(PIECE));
    };
    sender.on('drain', send);
    let sincePause = 0;
    receiver.on('data', ({ length }: Buffer) => {
      this.bytes += length;
      sincePause += length;
      if (sincePause < RECEIVER_BYTES) return;
      sincePause = 0;
      receiver.pause();
      setTimeout(() => receiver.resume(), RECEIVER_PAUSE_MS);
    });
    send();
  }

  get isRunning(): boolean {
    return this.#pair.every((socket) => !socket.destroyed);
  }
}

/** Sends from all sockets in turn, at the rate of a network. */
class Senders {
  /** Milliseconds of the monotonic clock. */
  lastSentAt = performance.now();
  readonly #sockets: readonly Socket[];
  #next = 0;

  constructor(sockets: readonly Socket[]) {
    this.#sockets = sockets;
    setInterval(() => this.#sendForOneTick(), TICK_MS);
  }

  #sendForOneTick(): void {
    let bytes = BYTES_PER_TICK;
    for (let tried = 0; bytes > 0 && tried < this.#sockets.length; tried += 1) {
      const socket = this.#sockets[this.#next % this.#sockets.length];
      this.#next += 1;
      if (socket?.writable !== true || socket.writableLength > 0) continue;
      bytes -= PIECE.length;
      socket.write(PIECE);
      if (socket.writableLength === 0) this.lastSentAt = performance.now();
    }
  }
}

function print(report: object): void {
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

const [port = 0, count = 0] = process.argv.slice(2).map(Number);
const running = await connectPair(port);
if (running === null) throw new Error('the relay rejects the transfer');
const transfer = new Transfer(running);
const pairs: Pair[] = [];
for (let tries = 0; tries < count; tries += 1) {
  const pair = await connectPair(port);
  if (pair === null) break;
  pairs.push(pair);
}
const sockets = pairs.flat();
for (const socket of sockets) socket.resume();
const senders = new Senders(sockets);
await sleep(FULL_SPEED_MS);
for (const socket of sockets) socket.pause();
const before = transfer.bytes;
while (performance.now() - senders.lastSentAt < STALLED_MS) await sleep(TICK_MS);
const connected = sockets.filter((socket) => !socket.destroyed).length;
const transferred = transfer.isRunning ? transfer.bytes - before : 0;
print({ pairs: pairs.length, connected, transferred });

const pair = await connectPair(port);
let exchanged = 0;
if (pair !== null) {
  const [sender, receiver] = pair;
  receiver.on('data', (data: Buffer) => {
    exchanged += data.length;
  });
  sender.end(Buffer.alloc(EXCHANGED_BYTES));
  await once(receiver, 'end');
}
print({ exchanged });
for (const socket of [...sockets, ...running]) socket.resetAndDestroy();
process.exit(0);
