import { once } from 'node:events';
import { connect } from 'node:net';
import process from 'node:process';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { WebSocket, createWebSocketStream } from 'ws';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';

/**
 * Clients on the far side of a network: `node outage-clients.ts HOST RAW_PORT WEBSOCKET_PORT TLS_PORT`. It
 * prints `silent` when no client has anything to send, and reads two commands: `send` starts the transfers
 * and is answered with `sending`; `check` checks every client and is answered with one line of JSON.
 */

const STATES = ['waiting', 'idle', 'paused', 'sending'] as const;

/** More than the kernels on both sides and the relay accept from a sender whose receiver does not read. */
const PAUSED_BYTES = 24_000_000;

const PIECE = randomBytesOf(1, 65_536);
const PIECE_EVERY_MS = 100;

/** TCP retransmits after up to twice the length of an outage. In milliseconds. */
const CHECK_TIMEOUT_MS = 60_000;

const [host = '', ...ports] = process.argv.slice(2);
const [rawPort = 0, websocketPort = 0, tlsPort = 0] = ports.map(Number);

const CONNECT: Readonly<Record<string, () => Promise<Duplex>>> = {
  raw: async () => {
    const socket = connect(rawPort, host);
    await once(socket, 'connect');
    return socket;
  },
  websocket: async () => {
    const ws = new WebSocket(`ws://${host}:${websocketPort}/`);
    const stream = createWebSocketStream(ws);
    await once(ws, 'open');
    return stream;
  },
  tls: async () => {
    const socket = connectTls({ port: tlsPort, host, rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    return socket;
  },
};

/** Reads exactly that many bytes. Rejects if the connection ends before. */
async function read(stream: Duplex, count: number): Promise<Buffer> {
  const buffers: Buffer[] = [];
  let missing = count;
  while (missing > 0) {
    const piece: unknown = stream.read(Math.min(missing, Math.max(1, stream.readableLength)));
    if (Buffer.isBuffer(piece)) {
      buffers.push(piece);
      missing -= piece.length;
    } else if (stream.destroyed || stream.readableEnded) {
      throw new Error(`closed after ${count - missing} of ${count} bytes`);
    } else {
      await new Promise<void>((resolve) => {
        for (const event of ['readable', 'end', 'close']) stream.once(event, () => resolve());
      });
    }
  }
  return Buffer.concat(buffers);
}

class ClientFactory {
  readonly #connect: () => Promise<Duplex>;

  constructor(connectStream: () => Promise<Duplex>) {
    this.#connect = connectStream;
  }

  async connect(token: string, side: string): Promise<Duplex> {
    const stream = await this.#connect();
    stream.setMaxListeners(0).on('error', () => undefined);
    stream.write(handshake(token, side));
    return stream;
  }

  async pair(): Promise<readonly [Duplex, Duplex]> {
    const token = newToken();
    const pair = [await this.connect(token, SIDE_A), await this.connect(token, SIDE_B)] as const;
    await Promise.all(pair.map((stream) => read(stream, 3)));
    return pair;
  }
}

async function expect(stream: Duplex, bytes: Uint8Array): Promise<void> {
  const received = await read(stream, bytes.length);
  if (!received.equals(bytes)) throw new Error('received bytes differ');
}

/** Sends a piece every `PIECE_EVERY_MS`. */
class Transfer {
  readonly #from: Duplex;
  readonly #to: Duplex;
  #pieces = 0;
  #isOver = false;

  constructor([from, to]: readonly [Duplex, Duplex]) {
    this.#from = from;
    this.#to = to;
  }

  async send(): Promise<void> {
    while (!this.#isOver) {
      this.#from.write(PIECE);
      this.#pieces += 1;
      await sleep(PIECE_EVERY_MS);
    }
  }

  async receive(buffers: number): Promise<void> {
    for (let piece = 0; piece < buffers; piece += 1) await expect(this.#to, PIECE);
  }

  async finish(received: number): Promise<void> {
    this.#isOver = true;
    this.#from.end();
    await this.receive(this.#pieces - received);
  }
}

type State = (typeof STATES)[number];

/** Clients of one transport, one client or pair for each state. */
class Group {
  readonly #clients: ClientFactory;
  #checks: Readonly<Record<State, () => Promise<void>>> | null = null;
  #transfer: Transfer | null = null;

  constructor(clients: ClientFactory) {
    this.#clients = clients;
  }

  async open(): Promise<void> {
    const token = newToken();
    const waiting = await this.#clients.connect(token, SIDE_A);
    const idle = await this.#clients.pair();
    const paused = await this.#clients.pair();
    const payload = randomBytesOf(2, PAUSED_BYTES);
    paused[0].write(payload);
    const transfer = new Transfer(await this.#clients.pair());
    this.#transfer = transfer;
    this.#checks = {
      waiting: async () => {
        const partner = await this.#clients.connect(token, SIDE_B);
        await Promise.all([expect(partner, Buffer.from('ok\n')), expect(waiting, Buffer.from('ok\n'))]);
      },
      idle: async () => {
        for (const stream of idle) stream.write('hello');
        await Promise.all(idle.map((stream) => expect(stream, Buffer.from('hello'))));
      },
      paused: () => expect(paused[1], payload),
      sending: () => transfer.finish(RECEIVED_BEFORE),
    };
  }

  async send(): Promise<void> {
    void this.#transfer?.send();
    await this.#transfer?.receive(RECEIVED_BEFORE);
  }

  async check(): Promise<Record<string, string>> {
    const results: Record<string, string> = {};
    await Promise.all(
      STATES.map(async (state) => {
        const timeout = sleep(CHECK_TIMEOUT_MS, `nothing arrived within ${CHECK_TIMEOUT_MS} ms`);
        const check = this.#checks?.[state]().then(() => 'ok');
        results[state] = await Promise.race([check ?? timeout, timeout]).catch(String);
      }),
    );
    return results;
  }
}

/** Number of received pieces after which a transfer counts as running. */
const RECEIVED_BEFORE = 5;

const groups = Object.entries(CONNECT).map(
  ([name, connectStream]) => [name, new Group(new ClientFactory(connectStream))] as const,
);
await Promise.all(groups.map(([, group]) => group.open()));
process.stdout.write('silent\n');
for await (const command of createInterface({ input: process.stdin })) {
  if (command === 'send') {
    await Promise.all(groups.map(([, group]) => group.send()));
    process.stdout.write('sending\n');
  } else {
    const results = await Promise.all(groups.map(async ([name, group]) => [name, await group.check()]));
    process.stdout.write(`${JSON.stringify(Object.fromEntries(results))}\n`);
    break;
  }
}
process.exit();
