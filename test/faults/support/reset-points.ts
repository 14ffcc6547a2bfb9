import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Mood } from '../../../src/protocol/messages.ts';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { encodeFrame } from '../../support/frames.ts';
import type { HeldRelay } from './held-relay.ts';
import { Party } from './party.ts';
import type { NetTransport } from './party.ts';
import { survives } from './survivor.ts';
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
  /** Brings clients to the point, resets them, and checks their partners. */
  readonly reset: (held: HeldRelay) => Promise<void>;
}

interface Couple {
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
function say(socket: Socket, bytes: Uint8Array | string): Promise<void> {
  return new Promise((resolve) => {
    socket.write(bytes, () => resolve());
  });
}

async function couple(held: HeldRelay, from: NetTransport, to: NetTransport): Promise<Couple> {
  const token = newToken();
  const ports = { raw: held.rawPort, websocket: held.websocketPort };
  const sender = new Party(ports, from, handshake(token, SIDE_A));
  const receiver = new Party(ports, to, handshake(token, SIDE_B));
  await Promise.all([sender.ok, receiver.ok]);
  return { from, to, sender: sender.socket, receiver: receiver.socket };
}

/** Pairs for each combination of transports. Awaits `ready` before `act` runs on each. */
function paired(
  name: string,
  ready: (couples: readonly Couple[]) => Promise<unknown>,
  act: (couple: Couple, held: HeldRelay) => Promise<void>,
): ResetPoint {
  const pairings = PAIRINGS.flatMap((pairing) => Array.from({ length: EACH }, () => pairing));
  const actOut = async (held: HeldRelay): Promise<void> => {
    const couples = await Promise.all(pairings.map(([from, to]) => couple(held, from, to)));
    try {
      await ready(couples);
      await Promise.all(couples.map((each) => act(each, held)));
    } finally {
      for (const { sender, receiver } of couples) for (const socket of [sender, receiver]) socket.destroy();
    }
  };
  return { name, mood: 'happy', records: pairings.length, reset: actOut };
}

/** Clients that have sent something. `waiting` of them wait before they are reset. */
function alone(
  name: string,
  mood: ResetPoint['mood'],
  transport: NetTransport,
  speak: (socket: Socket) => Promise<unknown>,
  waiting = 0,
): ResetPoint {
  const bring = async (held: HeldRelay): Promise<Socket> => {
    const port = transport === 'tcp' ? held.rawPort : held.websocketPort;
    const socket = connect({ port, host: '127.0.0.1' });
    await once(socket, 'connect');
    await speak(socket);
    return socket;
  };
  const resetAll = async (held: HeldRelay): Promise<void> => {
    const sockets = await Promise.all(Array.from({ length: EACH }, () => bring(held)));
    if (waiting > 0) await held.sees((status) => status.waiting === waiting);
    await Promise.all(sockets.map((socket) => reset(socket)));
  };
  return { name, mood, records: mood === null ? 0 : EACH, reset: resetAll };
}

/** Keeps sending more than fits, so that the connection is busy until it ends. */
function pour({ from, sender }: Couple): void {
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
function hearsSome(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('data', (piece: Buffer) => {
      socket.pause();
      socket.unshift(piece);
      resolve();
    });
    socket.resume();
  });
}

async function transfers(couples: readonly Couple[]): Promise<void> {
  for (const each of couples) pour(each);
  await Promise.all(couples.map(({ receiver }) => hearsSome(receiver)));
}

/** Resolves when no sender can send anything more. */
async function stalls(couples: readonly Couple[]): Promise<void> {
  for (const each of couples) pour(each);
  const sent = (): number => couples.reduce((sum, { sender }) => sum + sender.bytesWritten, 0);
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
    await say(socket, UPGRADE);
    await hearsSome(socket);
    if (more().length > 0) await say(socket, more());
  };
}

const ALONE: readonly ResetPoint[] = [
  alone('after connecting', 'empty', 'tcp', nothing),
  alone('in the middle of the handshake', 'empty', 'tcp', (socket) => say(socket, line().slice(0, 50))),
  alone('after the handshake', 'lonely', 'tcp', (socket) => say(socket, line())),
  alone('while waiting', 'lonely', 'tcp', (socket) => say(socket, line()), EACH),
  alone('after a bad handshake', 'errory', 'tcp', (socket) => say(socket, 'please\n')),
  alone('after the reply to a bad handshake', 'errory', 'tcp', async (socket) => {
    await say(socket, 'please\n');
    await hearsSome(socket);
  }),
  alone('after connecting by WebSocket', null, 'websocket', nothing),
  alone('in the middle of the upgrade', null, 'websocket', (socket) => say(socket, UPGRADE.slice(0, 50))),
  alone('right after the upgrade request', 'maybe empty', 'websocket', (socket) => say(socket, UPGRADE)),
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
    await say(socket, CLOSE_FRAME);
    await hearsSome(socket);
  }),
];

const PAIRED: readonly ResetPoint[] = [
  paired('right after ok', nothing, async ({ receiver, sender, from }) => {
    await Promise.all([survives(sender, from, NOTHING), reset(receiver)]);
  }),
  paired('while it sends', transfers, async ({ sender, receiver, to }) => {
    await reset(sender);
    await survives(receiver, to, PAYLOAD);
  }),
  paired('while it receives', transfers, async ({ receiver, sender, from }) => {
    await Promise.all([survives(sender, from, NOTHING), reset(receiver)]);
  }),
  paired('while it receives nothing although it could', stalls, async ({ receiver, sender, from }) => {
    await Promise.all([survives(sender, from, NOTHING), reset(receiver)]);
  }),
  paired('while its receiver is stalled', stalls, async ({ sender, receiver, to }) => {
    await reset(sender);
    await survives(receiver, to, PAYLOAD);
  }),
  paired('after its FIN', transfers, async ({ sender, receiver, from }) => {
    await Promise.all([survives(sender, from, NOTHING), resetBehindFin(receiver)]);
  }),
];

/** Every point except `SLOW_POINT`. */
export const RESET_POINTS: readonly ResetPoint[] = [...ALONE, ...PAIRED];

/**
 * The receivers never read, so the relay does not read from the senders either and must probe for their
 * resets. It does so if nothing has moved between two of its sweeps, which are 15 s apart.
 */
export const SLOW_POINT = paired('while its receiver has stopped permanently', stalls, async (each, held) => {
  await reset(each.sender);
  await held.sees(({ pairs }) => pairs === 0);
  await reset(each.receiver);
});
