import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { encodeFrame } from '../../support/frames.ts';
import { PairClient } from './pair-client.ts';
import type { NetTransport, Ports } from './pair-client.ts';
import { sourceAddress } from './source-address.ts';

/**
 * Run as `node mass-attacker.ts ATTACK RAW_PORT WEBSOCKET_PORT COUNT`. It prints `ready` when the attack is
 * prepared, starts at the first line of its input, and continues until it is killed, which closes all its
 * connections at once.
 */

const BINARY = 2;
const CONTINUATION = 0;
const PING = 9;

/** Concurrent connection attempts. */
const WORKERS = 100;

const RECONNECT_MS = 1000;

/** Bytes of one write. */
const WRITE_BYTES = 65_536;

const token = (): string => randomBytes(32).toString('hex');

async function createAll<T>(count: number, create: () => Promise<T>): Promise<T[]> {
  const all: T[] = [];
  let started = 0;
  const worker = async (): Promise<void> => {
    while (started < count) {
      started += 1;
      all.push(await create());
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, worker));
  return all;
}

async function pair(ports: Ports, from: NetTransport): Promise<Socket> {
  const common = token();
  const clients = [
    new PairClient(ports, from, handshake(common, SIDE_A)),
    new PairClient(ports, 'tcp', handshake(common, SIDE_B)),
  ];
  await Promise.all(clients.map(({ ok }) => ok));
  const [sender, receiver] = clients;
  if (sender === undefined || receiver === undefined) throw new Error('a client is missing');
  receiver.socket.resume();
  return sender.socket;
}

/**
 * Connects from one address, sends `bytes`, and keeps its side open whatever the relay does. Reconnects when
 * the connection is closed. Resolves after the first connection.
 */
function linger(port: number, bytes: string): Promise<void> {
  const socket = connect({ port, host: '127.0.0.1', localAddress: sourceAddress(0, 1), allowHalfOpen: true });
  socket.on('error', () => undefined);
  socket.resume();
  return new Promise((resolve) => {
    socket.once('connect', () => {
      if (bytes !== '') socket.write(bytes);
      resolve();
    });
    socket.once('close', () => {
      resolve();
      setTimeout(() => void linger(port, bytes), RECONNECT_MS);
    });
  });
}

async function webSocket(ports: Ports, line: string): Promise<Socket> {
  const { socket, open } = new PairClient(ports, 'websocket', line);
  await open;
  socket.resume();
  return socket;
}

/** As many copies of a frame as fit into one write. */
function repeated(frame: Buffer): Buffer {
  return Buffer.alloc(WRITE_BYTES - (WRITE_BYTES % frame.length), frame);
}

function pour(sockets: readonly Socket[], bytes: Buffer): void {
  for (const socket of sockets) {
    const more = (): void => {
      while (!socket.destroyed && socket.write(bytes));
    };
    socket.on('drain', more);
    more();
  }
}

/** Each attack prepares COUNT connections or pairs and returns the function that starts it. */
const ATTACKS: Readonly<Record<string, (ports: Ports, count: number) => Promise<() => void>>> = {
  /** Pings without payload: a third before the handshake, a third waiting, a third in pairs. */
  pings: async (ports, count) => {
    let index = 0;
    const sockets = await createAll(count, () => {
      index += 1;
      if (index % 3 === 0) return pair(ports, 'websocket');
      return webSocket(ports, index % 3 === 1 ? handshake(token(), SIDE_A) : 'please');
    });
    return () => pour(sockets, repeated(encodeFrame({ opcode: PING })));
  },
  /** Empty messages before the handshake. */
  'empty-frames': async (ports, count) => {
    const sockets = await createAll(count, () => webSocket(ports, ''));
    return () => pour(sockets, repeated(encodeFrame({ opcode: BINARY })));
  },
  /** Pairs whose sender sends one endless message in fragments of one byte. */
  fragments: async (ports, count) => {
    const sockets = await createAll(count, () => pair(ports, 'websocket'));
    const fragment = (opcode: number): Buffer => encodeFrame({ opcode, payload: 'x', isFinal: false });
    return () => {
      for (const socket of sockets) socket.write(fragment(BINARY));
      pour(sockets, repeated(fragment(CONTINUATION)));
    };
  },
  /** Idle pairs. They close when this process is killed. */
  pairs: async (ports, count) => {
    await createAll(count, () => pair(ports, 'tcp'));
    return () => undefined;
  },
  /** Waiting clients from one address, each with its own token. */
  waiters: async ({ raw: port }, count) => {
    await createAll(count, () => linger(port, handshake(token(), SIDE_A)));
    return () => undefined;
  },
  /** Connections from one address that send nothing. */
  idle: async ({ raw: port }, count) => {
    await createAll(count, () => linger(port, ''));
    return () => undefined;
  },
  /** Connections from one address that send a bad handshake and keep their side open. */
  lingerers: async ({ raw: port }, count) => {
    await createAll(count, () => linger(port, 'nonsense\n'));
    return () => undefined;
  },
  /** Incomplete WebSocket upgrades from one address. */
  'half-upgrades': async ({ websocket: port }, count) => {
    await createAll(count, () => linger(port, 'GET / HTTP/1.1\r\nHost: relay\r\n'));
    return () => undefined;
  },
  /** Clients that wait for one token; then a client of the other side connects. */
  'one-token': async (ports, count) => {
    const common = newToken();
    await createAll(count, async () => {
      const { socket, open } = new PairClient(ports, 'tcp', handshake(common, SIDE_A));
      await open;
      socket.resume();
    });
    return () => void new PairClient(ports, 'tcp', handshake(common, SIDE_B));
  },
  /** Pairs that all send one byte at the same moment, repeatedly. */
  chatter: async (ports, count) => {
    const sockets = await createAll(count, () => pair(ports, 'tcp'));
    return () => {
      const round = (): void => {
        for (const socket of sockets) socket.write('x');
        setTimeout(round, 1000);
      };
      round();
    };
  },
};

const [name = '', raw, websocket, count] = process.argv.slice(2);
const attack = ATTACKS[name];
if (attack === undefined) throw new Error(`unknown attack "${name}"`);
const begin = await attack({ raw: Number(raw), websocket: Number(websocket) }, Number(count));
process.stdout.write('ready\n');
await once(process.stdin.resume(), 'data');
begin();
process.stdout.write('begun\n');
