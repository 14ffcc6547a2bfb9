import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Mood } from '../../../src/protocol/messages.ts';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { encodeFrame } from '../../support/frames.ts';
import type { MonitoredRelay } from './monitored-relay.ts';
import { PairClient } from './pair-client.ts';
import type { NetTransport } from './pair-client.ts';
import { expectCleanClose } from './clean-close.ts';
import { UPGRADE } from './websocket-attacks.ts';

/** Clients that are reset at one point, or pairs for each combination of transports. */
const EACH = 5;

/** More than the kernel and the relay accept for a receiver that does not read. */
const PAYLOAD = randomBytesOf(9, 16 * 2 ** 20);

const PIECE_BYTES = 65_536;

/** Senders that have sent nothing for that long are stalled, in milliseconds. */
const STILL_MS = 500;

const NOTHING = Buffer.alloc(0);

const BINARY = 2;
const CLOSE = 8;

const PAYLOAD_FRAME = encodeFrame({ opcode: BINARY, payload: PAYLOAD });
const CLOSE_FRAME = encodeFrame({ opcode: CLOSE, payload: Uint8Array.of(0x03, 0xe8) });

const PAIRINGS = [
  ['tcp', 'tcp'],
  ['tcp', 'websocket'],
  ['websocket', 'tcp'],
  ['websocket', 'websocket'],
] as const;

/** A point of a session at which clients are reset. */
export interface ResetPoint {
  readonly name: string;
  /** Mood in the records. `maybe empty`: no record if the relay sees the reset before the upgrade. */
  readonly mood: Mood | 'maybe empty' | null;
  /** Number of such records. */
  readonly records: number;
  /** Connects clients up to that point, resets them, and checks their partners. */
  readonly reset: (monitored: MonitoredRelay) => Promise<void>;
}

interface Pair {
  readonly from: NetTransport;
  readonly to: NetTransport;
  readonly sender: Socket;
  readonly receiver: Socket;
}

async function reset(socket: Socket): Promise<void> {
  const closed = once(socket, 'close');
  socket.resetAndDestroy();
  await closed;
}

/** The kernel itself sends a reset if it has bytes for a program that has closed. */
async function resetBehindFin(socketWithUnread: Socket): Promise<void> {
  const finished = once(socketWithUnread, 'finish');
  socketWithUnread.end();
  await finished;
  const closed = once(socketWithUnread, 'close');
  socketWithUnread.destroy();
  await closed;
}

/** Resolves when the kernel has accepted everything. */
function send(socket: Socket, bytes: Uint8Array | string): Promise<void> {
  return new Promise((resolve) => {
    socket.write(bytes, () => resolve());
  });
}

async function pair(monitored: MonitoredRelay, from: NetTransport, to: NetTransport): Promise<Pair> {
  const token = newToken();
  const ports = { raw: monitored.rawPort, websocket: monitored.websocketPort };
  const sender = new PairClient(ports, from, handshake(token, SIDE_A));
  const receiver = new PairClient(ports, to, handshake(token, SIDE_B));
  await Promise.all([sender.ok, receiver.ok]);
  return { from, to, sender: sender.socket, receiver: receiver.socket };
}

/** Pairs for each combination of transports. Awaits `ready` before `act` runs on each. */
function paired(
  name: string,
  ready: (pairs: readonly Pair[]) => Promise<unknown>,
  act: (pair: Pair, monitored: MonitoredRelay) => Promise<void>,
): ResetPoint {
  const pairings = PAIRINGS.flatMap((pairing) => Array.from({ length: EACH }, () => pairing));
  const resetAll = async (monitored: MonitoredRelay): Promise<void> => {
    const pairs = await Promise.all(pairings.map(([from, to]) => pair(monitored, from, to)));
    try {
      await ready(pairs);
      await Promise.all(pairs.map((each) => act(each, monitored)));
    } finally {
      for (const { sender, receiver } of pairs) for (const socket of [sender, receiver]) socket.destroy();
    }
  };
  return { name, mood: 'happy', records: pairings.length, reset: resetAll };
}

/** Clients that have sent something. `waiting` of them wait before they are reset. */
function alone(
  name: string,
  mood: ResetPoint['mood'],
  transport: NetTransport,
  prepare: (socket: Socket) => Promise<unknown>,
  waiting = 0,
): ResetPoint {
  const connectClient = async (monitored: MonitoredRelay): Promise<Socket> => {
    const port = transport === 'tcp' ? monitored.rawPort : monitored.websocketPort;
    const socket = connect({ port, host: '127.0.0.1' });
    await once(socket, 'connect');
    await prepare(socket);
    return socket;
  };
  const resetAll = async (monitored: MonitoredRelay): Promise<void> => {
    const sockets = await Promise.all(Array.from({ length: EACH }, () => connectClient(monitored)));
    if (waiting > 0) await monitored.untilStatus((status) => status.waiting === waiting);
    await Promise.all(sockets.map((socket) => reset(socket)));
  };
  return { name, mood, records: mood === null ? 0 : EACH, reset: resetAll };
}

/** Keeps sending more than fits, so that the connection is busy until it ends. */
function pour({ from, sender }: Pair): void {
  const all = from === 'tcp' ? PAYLOAD : PAYLOAD_FRAME;
  let at = 0;
  const more = (): void => {
    while (!sender.destroyed && at < all.length) {
      at += PIECE_BYTES;
      if (!sender.write(all.subarray(at - PIECE_BYTES, at))) return;
    }
  };
  sender.on('drain', more);
  more();
}

/** Resolves when bytes have arrived. They can still be read. */
function receivesSome(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('data', (piece: Buffer) => {
      socket.pause();
      socket.unshift(piece);
      resolve();
    });
    socket.resume();
  });
}

async function transfers(pairs: readonly Pair[]): Promise<void> {
  for (const each of pairs) pour(each);
  await Promise.all(pairs.map(({ receiver }) => receivesSome(receiver)));
}

/** Resolves when no sender can send anything more. */
async function stalls(pairs: readonly Pair[]): Promise<void> {
  for (const each of pairs) pour(each);
  const sent = (): number => pairs.reduce((sum, { sender }) => sum + sender.bytesWritten, 0);
  for (let last = -1; last < sent();) {
    last = sent();
    await sleep(STILL_MS);
  }
}

const nothing = async (): Promise<void> => undefined;

const line = (): string => handshake(newToken(), SIDE_A);

const frame = (): Buffer => encodeFrame({ opcode: BINARY, payload: line() });

/** Bytes sent after the upgrade. */
function upgraded(more: () => Uint8Array): (socket: Socket) => Promise<void> {
  return async (socket) => {
    await send(socket, UPGRADE);
    await receivesSome(socket);
    if (more().length > 0) await send(socket, more());
  };
}

const ALONE: readonly ResetPoint[] = [
  alone('after connecting', 'empty', 'tcp', nothing),
  alone('in the middle of the handshake', 'empty', 'tcp', (socket) => send(socket, line().slice(0, 50))),
  alone('after the handshake', 'lonely', 'tcp', (socket) => send(socket, line())),
  alone('while waiting', 'lonely', 'tcp', (socket) => send(socket, line()), EACH),
  alone('after a bad handshake', 'errory', 'tcp', (socket) => send(socket, 'please\n')),
  alone('after the reply to a bad handshake', 'errory', 'tcp', async (socket) => {
    await send(socket, 'please\n');
    await receivesSome(socket);
  }),
  alone('after connecting by WebSocket', null, 'websocket', nothing),
  alone('in the middle of the upgrade', null, 'websocket', (socket) => send(socket, UPGRADE.slice(0, 50))),
  alone('right after the upgrade request', 'maybe empty', 'websocket', (socket) => send(socket, UPGRADE)),
  alone(
    'after the upgrade',
    'empty',
    'websocket',
    upgraded(() => NOTHING),
  ),
  alone(
    'in a frame header',
    'empty',
    'websocket',
    upgraded(() => frame().subarray(0, 1)),
  ),
  alone(
    'in a frame',
    'empty',
    'websocket',
    upgraded(() => frame().subarray(0, 50)),
  ),
  alone('while waiting by WebSocket', 'lonely', 'websocket', upgraded(frame), EACH),
  alone(
    'after a close frame',
    'empty',
    'websocket',
    upgraded(() => CLOSE_FRAME),
  ),
  alone('after the close frames', 'empty', 'websocket', async (socket) => {
    await upgraded(() => NOTHING)(socket);
    socket.read();
    await send(socket, CLOSE_FRAME);
    await receivesSome(socket);
  }),
];

const PAIRED: readonly ResetPoint[] = [
  paired('right after ok', nothing, async ({ receiver, sender, from }) => {
    await Promise.all([expectCleanClose(sender, from, NOTHING), reset(receiver)]);
  }),
  paired('while it sends', transfers, async ({ sender, receiver, to }) => {
    await reset(sender);
    await expectCleanClose(receiver, to, PAYLOAD);
  }),
  paired('while it receives', transfers, async ({ receiver, sender, from }) => {
    await Promise.all([expectCleanClose(sender, from, NOTHING), reset(receiver)]);
  }),
  paired('while it receives nothing although it could', stalls, async ({ receiver, sender, from }) => {
    await Promise.all([expectCleanClose(sender, from, NOTHING), reset(receiver)]);
  }),
  paired('while its receiver is stalled', stalls, async ({ sender, receiver, to }) => {
    await reset(sender);
    await expectCleanClose(receiver, to, PAYLOAD);
  }),
  paired('after its FIN', transfers, async ({ sender, receiver, from }) => {
    await Promise.all([expectCleanClose(sender, from, NOTHING), resetBehindFin(receiver)]);
  }),
];

/** Every point except `SLOW_POINT`. */
export const RESET_POINTS: readonly ResetPoint[] = [...ALONE, ...PAIRED];

/**
 * The receivers never read, so the relay does not read from the senders either and must probe for their
 * resets. It does so if nothing has moved between two of its sweeps, which are 15 s apart.
 */
export const SLOW_POINT = paired(
  'while its receiver has stopped permanently',
  stalls,
  async (each, monitored) => {
    await reset(each.sender);
    await monitored.untilStatus(({ pairs }) => pairs === 0);
    await reset(each.receiver);
  },
);
