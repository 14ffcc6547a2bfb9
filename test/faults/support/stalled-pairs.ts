import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';

/**
 * Pairs that send at full speed in both directions, and then stop reading. Run as `node stalled-pairs.ts PORT
 * COUNT`; COUNT is the most, if the relay accepts as many. It prints lines of JSON: `{ pairs, connected }`
 * when all pairs have stalled, with the number of their connections that are still open; and `{ exchanged }`,
 * the bytes that a new pair receives when a tenth of the pairs has left.
 */

/** How long the pairs read, in milliseconds: long enough for the kernel to enlarge the buffers. */
const FULL_SPEED_MS = 2000;

/** Time for stalled pairs to fill the buffers, in milliseconds. */
const FILLING_MS = 2000;

const PIECE = Buffer.alloc(64 * 1024);

/** Bytes that the new pair exchanges. */
const EXCHANGED_BYTES = 100_000;

const MAX_TRIES = 50;

const RETRY_MS = 200;

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

/** Sends as fast as the relay reads. */
function sendForever(socket: Socket): void {
  const send = (): void => {
    while (socket.writable && socket.write(PIECE));
  };
  socket.on('drain', send);
  send();
}

function print(report: object): void {
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

const [port = 0, count = 0] = process.argv.slice(2).map(Number);
const pairs: Pair[] = [];
for (let tries = 0; tries < count; tries += 1) {
  const pair = await connectPair(port);
  if (pair === null) break;
  pairs.push(pair);
}
const sockets = pairs.flat();
for (const socket of sockets) {
  socket.resume();
  sendForever(socket);
}
await sleep(FULL_SPEED_MS);
for (const socket of sockets) socket.pause();
await sleep(FILLING_MS);
const connected = sockets.filter((socket) => !socket.destroyed).length;
print({ pairs: pairs.length, connected });

for (const socket of pairs.slice(0, Math.ceil(pairs.length / 10)).flat()) socket.destroy();
// The relay may notice a little later that connections have been closed.
let pair = await connectPair(port);
for (let tries = 0; tries < MAX_TRIES && pair === null; tries += 1) {
  await sleep(RETRY_MS);
  pair = await connectPair(port);
}
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
process.exit(0);
