import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { duplexPair } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';

/**
 * TLS attacks, run as `node tls-attacker.ts ATTACK PORT COUNT SECONDS`. Prints a line `ready` when the attack
 * runs, and `done N` at its end, with the number of connections that were made.
 */
const ATTACKS: Readonly<Record<string, (port: number, count: number, seconds: number) => Promise<number>>> = {
  'one-byte-records': oneByteRecords,
  'stalled-pairs': stalledPairs,
  'client-hellos': clientHellos,
};

/** One-byte records per pair and round: as many as the kernel accepts before the relay reads the first. */
const RECORDS = 200_000;

const PAIRS_AT_ONCE = 10;

const CHUNK = Buffer.alloc(262_144);

/** TLS over a stream whose ciphertext can be collected. */
interface Client {
  readonly secured: TLSSocket;
  readonly socket: Socket;
  /** Collects ciphertext instead of sending it. */
  collected: Buffer[] | null;
}

async function connectClient(port: number): Promise<Client> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  const [inside, outside] = duplexPair();
  const secured = connectTls({ socket: inside, rejectUnauthorized: false });
  secured.on('error', () => undefined);
  const client: Client = { secured, socket, collected: null };
  outside.on('data', (bytes: Buffer) => {
    if (client.collected === null) socket.write(bytes);
    else client.collected.push(bytes);
  });
  socket.on('data', (bytes) => outside.write(bytes));
  await once(secured, 'secureConnect');
  return client;
}

async function pair(port: number): Promise<[Client, Client]> {
  const token = newToken();
  const clients: [Client, Client] = [await connectClient(port), await connectClient(port)];
  const paired = clients.map(({ secured }) => once(secured, 'data'));
  clients[0].secured.write(handshake(token, SIDE_A));
  clients[1].secured.write(handshake(token, SIDE_B));
  await Promise.all(paired);
  return clients;
}

/** All pairs send one-byte records at the same moment, as fast as the relay reads them. */
async function oneByteRecords(port: number, count: number, seconds: number): Promise<number> {
  const bursts: { readonly client: Client; readonly ciphertext: Buffer[] }[] = [];
  for (let index = 0; index < count; index += 1) {
    const [sender, receiver] = await pair(port);
    receiver.secured.resume();
    const collected: Buffer[] = [];
    sender.collected = collected;
    for (let record = 0; record < RECORDS / count; record += 1)
      await new Promise<void>((resolve) => sender.secured.write('x', () => resolve()));
    bursts.push({ client: sender, ciphertext: collected });
  }
  print('ready');
  for (const { client, ciphertext } of bursts) client.socket.write(Buffer.concat(ciphertext));
  await sleep(seconds * 1000);
  return 2 * count;
}

/** Neither client of these pairs reads, and each sends as much as the relay and the kernels accept. */
async function stalledPairs(port: number, count: number, seconds: number): Promise<number> {
  let left = count;
  const openSome = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await openStalledPair(port);
    }
  };
  await Promise.all(Array.from({ length: PAIRS_AT_ONCE }, openSome));
  await sleep(2000);
  print('ready');
  await sleep(seconds * 1000);
  return 2 * count;
}

async function openStalledPair(port: number): Promise<void> {
  const token = newToken();
  const sockets = await Promise.all([connectSecure(port), connectSecure(port)]);
  const paired = sockets.map((socket) => once(socket, 'data'));
  for (const [index, socket] of sockets.entries())
    socket.write(handshake(token, index === 0 ? SIDE_A : SIDE_B));
  await Promise.all(paired);
  for (const socket of sockets) {
    socket.pause();
    const pump = (): void => {
      while (socket.write(CHUNK));
    };
    socket.on('drain', pump);
    pump();
  }
}

async function connectSecure(port: number): Promise<TLSSocket> {
  const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false });
  socket.on('error', () => undefined);
  await once(socket, 'secureConnect');
  return socket;
}

/** Opens `count` connections per second from one address that send a ClientHello and wait for the answer. */
async function clientHellos(port: number, count: number, seconds: number): Promise<number> {
  const [here, there] = duplexPair();
  connectTls({ socket: here }).on('error', () => undefined);
  const [hello]: unknown[] = await once(there, 'data');
  if (!(hello instanceof Uint8Array)) throw new Error('no ClientHello');
  print('ready');
  let made = 0;
  const startedAt = performance.now();
  for (;;) {
    const elapsed = (performance.now() - startedAt) / 1000;
    if (elapsed > seconds) return made;
    for (; made < elapsed * count; made += 1) {
      const socket = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' });
      socket.on('error', () => undefined);
      socket.on('data', () => socket.destroy());
      socket.write(hello);
    }
    await sleep(5);
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

const [attack = '', port, count, seconds] = process.argv.slice(2);
const run = ATTACKS[attack];
if (run === undefined) throw new Error(`unknown attack "${attack}"`);
print(`done ${await run(Number(port), Number(count), Number(seconds))}`);
process.exit(0);
