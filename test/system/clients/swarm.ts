import { createCipheriv, createHash } from 'node:crypto';
import type { Cipheriv } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';

/**
 * Thousands of clients in one process, run as `node swarm.ts waiting|pairs PORT COUNT [BYTES]`.
 *
 * `waiting`: COUNT clients, each with a unique token. Prints "waiting" once all have sent their handshake.
 *
 * `pairs`: 2 × COUNT clients, two per token. Prints "paired" once all have their `ok`. Only then does every
 * client send BYTES to its partner, all at once and in both directions. Prints "exchanged" once all have
 * received every byte.
 *
 * Both modes stay until their input ends, disconnect, and exit with 0. Anything unexpected ends the process
 * with 1: a closed connection, a wrong byte or a surplus one.
 */

/** Concurrent connection attempts. More than the listen backlog would measure SYN retries. */
const CONNECTING_AT_ONCE = 500;

const CHUNK_BYTES = 16_384;

const OK = Buffer.from('ok\n');

let leaving = false;

/** A byte stream that differs for every seed and looks like noise. */
class SeededBytes {
  readonly #cipher: Cipheriv;

  constructor(seed: string) {
    this.#cipher = createCipheriv('aes-128-ctr', digest(seed).subarray(0, 16), Buffer.alloc(16));
  }

  take(count: number): Buffer {
    return this.#cipher.update(Buffer.alloc(count));
  }
}

class Client {
  readonly #socket: Socket;
  readonly closed: Promise<void>;
  onData: (bytes: Buffer) => void = () => fail('a waiting client received bytes');

  constructor(socket: Socket) {
    this.#socket = socket;
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('data', (bytes: Buffer) => this.onData(bytes));
    socket.on('error', (error) => fail(`a connection failed: ${error.message}`));
    socket.on('end', () => {
      if (!leaving) fail('the relay closed a connection');
    });
  }

  static async connect(port: number, token: string, side: string): Promise<Client> {
    const client = new Client(connect(port, '127.0.0.1'));
    await once(client.#socket, 'connect');
    client.#socket.write(`please relay ${token} for side ${side}\n`);
    return client;
  }

  /** Resolves when the relay has sent `ok` and nothing else. */
  ok(): Promise<void> {
    let received: Buffer = Buffer.alloc(0);
    return new Promise((resolve) => {
      this.onData = (bytes) => {
        received = Buffer.concat([received, bytes]);
        if (!OK.subarray(0, received.length).equals(received))
          fail(`not "ok": ${received.toString('latin1')}`);
        if (received.length === OK.length) resolve();
      };
    });
  }

  /** Resolves when exactly the first `count` bytes of `expected` have arrived. */
  receive(expected: SeededBytes, count: number): Promise<void> {
    let received = 0;
    return new Promise((resolve) => {
      this.onData = (bytes) => {
        received += bytes.length;
        if (received > count) fail(`${received - count} surplus bytes`);
        if (!expected.take(bytes.length).equals(bytes)) fail(`wrong bytes before byte ${received}`);
        if (received === count) resolve();
      };
    });
  }

  async send(bytes: SeededBytes, count: number): Promise<void> {
    for (let sent = 0; sent < count; sent += CHUNK_BYTES) {
      const chunk = bytes.take(Math.min(CHUNK_BYTES, count - sent));
      if (!this.#socket.write(chunk)) await once(this.#socket, 'drain');
    }
  }

  leave(): void {
    this.#socket.end();
  }

  reset(): void {
    this.#socket.resetAndDestroy();
  }
}

async function beWaiting(port: number, count: number): Promise<void> {
  const clients = await createAll(count, (index) =>
    Client.connect(port, hex(`waiting ${index}`, 64), hex(`side ${index}`, 16)),
  );
  print('waiting');
  await untilInputEnds();
  // Some clients disconnect with a FIN, some with a reset.
  for (const [index, client] of clients.entries()) {
    if (index % 2 === 0) client.leave();
    else client.reset();
  }
  await Promise.all(clients.map((client) => client.closed));
}

async function bePairs(port: number, count: number, bytes: number): Promise<void> {
  const pairs = await createAll(count, async (index) => {
    const join = (side: string): Promise<Client> =>
      Client.connect(port, hex(`pair ${index}`, 64), hex(`${side} of ${index}`, 16));
    const left = await join('left');
    const leftOk = left.ok();
    const right = await join('right');
    await Promise.all([leftOk, right.ok()]);
    return { left, right };
  });
  print('paired');
  await Promise.all(
    pairs.flatMap(({ left, right }, index) => [
      right.receive(new SeededBytes(`left ${index}`), bytes),
      left.receive(new SeededBytes(`right ${index}`), bytes),
      left.send(new SeededBytes(`left ${index}`), bytes),
      right.send(new SeededBytes(`right ${index}`), bytes),
    ]),
  );
  print('exchanged');
  await untilInputEnds();
  for (const { left } of pairs) left.leave();
  await Promise.all(pairs.flatMap(({ left, right }) => [left.closed, right.closed]));
}

async function createAll<T>(count: number, create: (index: number) => Promise<T>): Promise<T[]> {
  const all: T[] = [];
  while (all.length < count) {
    const first = all.length;
    const length = Math.min(CONNECTING_AT_ONCE, count - first);
    all.push(...(await Promise.all(Array.from({ length }, (_, offset) => create(first + offset)))));
  }
  return all;
}

async function untilInputEnds(): Promise<void> {
  process.stdin.resume();
  await once(process.stdin, 'end');
  leaving = true;
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function hex(text: string, length: number): string {
  return digest(text).toString('hex').slice(0, length);
}

function print(word: string): void {
  process.stdout.write(`${word}\n`);
}

function fail(why: string): never {
  process.stderr.write(`${why}\n`);
  process.exit(1);
}

const [role, port, count, bytes] = process.argv.slice(2);
if (role === 'waiting') await beWaiting(Number(port), Number(count));
else if (role === 'pairs') await bePairs(Number(port), Number(count), Number(bytes));
else fail('usage: swarm.ts waiting|pairs PORT COUNT [BYTES]');
