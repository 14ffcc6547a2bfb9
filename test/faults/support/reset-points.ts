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

/** Clients that are reset at one point, or couples by way of each pair of transports. */
const EACH = 5;

/** More than the kernel and the relay take for a receiver that does not read. */
const PAYLOAD = randomBytesOf(9, 16 * 2 ** 20);

const PIECE_BYTES = 65_536;

/** Senders who have got rid of nothing for so long have stalled, in milliseconds. */
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

/** A point of the conversation at which clients are reset. */
export interface ResetPoint {
  readonly name: string;
  /** What the records say of them. `maybe empty`: nothing where the reset is seen before the upgrade. */
  readonly mood: Mood | 'maybe empty' | null;
  /** Records there are of that. */
  readonly records: number;
  /** Brings clients there, resets them, and sees what becomes of their partners. */
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

/** The kernel sends a reset by itself when it has bytes for a program that has closed. */
async function resetBehindFin(socketWithUnread: Socket): Promise<void> {
  const finished = once(socketWithUnread, 'finish');
  socketWithUnread.end();
  await finished;
  const closed = once(socketWithUnread, 'close');
  socketWithUnread.destroy();
  await closed;
}

/** Resolves when the kernel has all of it. */
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

/** Couples over each pair of transports. `ready` is awaited before `act` is done to each. */
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

/** Clients that have said something. `waiting` of them wait before they are reset. */
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

/** Sends more than fits, piece by piece, so that the connection is in the middle of it until somebody ends it. */
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

/** Resolves when something has come. It is still there to be read. */
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

/** Resolves when no sender gets rid of anything any more. */
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

/** What is said behind the upgrade. */
function upgraded(more: () => Uint8Array): (socket: Socket) => Promise<void> {
  return async (socket) => {
    await say(socket, UPGRADE);
    await hearsSome(socket);
    if (more().length > 0) await say(socket, more());
  };
}

const ALONE: readonly ResetPoint[] = [
  alone('after connecting', 'empty', 'tcp', nothing),
  alone('in the middle of the line', 'empty', 'tcp', (socket) => say(socket, line().slice(0, 50))),
  alone('behind the line', 'lonely', 'tcp', (socket) => say(socket, line())),
  alone('while waiting', 'lonely', 'tcp', (socket) => say(socket, line()), EACH),
  alone('behind a line that is bad', 'errory', 'tcp', (socket) => say(socket, 'please\n')),
  alone('after hearing that its line is bad', 'errory', 'tcp', async (socket) => {
    await say(socket, 'please\n');
    await hearsSome(socket);
  }),
  alone('after connecting by WebSocket', null, 'websocket', nothing),
  alone('in the middle of the upgrade', null, 'websocket', (socket) => say(socket, UPGRADE.slice(0, 50))),
  alone('behind the upgrade', 'maybe empty', 'websocket', (socket) => say(socket, UPGRADE)),
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
    'behind a close frame',
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
  paired('while it receives nothing that it could', stalls, async ({ receiver, sender, from }) => {
    await Promise.all([survives(sender, from, NOTHING), reset(receiver)]);
  }),
  paired('while its receiver stands still', stalls, async ({ sender, receiver, to }) => {
    await reset(sender);
    await survives(receiver, to, PAYLOAD);
  }),
  paired('behind its FIN', transfers, async ({ sender, receiver, from }) => {
    await Promise.all([survives(sender, from, NOTHING), resetBehindFin(receiver)]);
  }),
];

/** Every point, but for the one that `SLOW_POINT` is. */
export const RESET_POINTS: readonly ResetPoint[] = [...ALONE, ...PAIRED];

/**
 * The receivers never read, so that the relay does not read from the senders either, and has to ask for their resets: it
 * does so when nothing has moved between two of its looks, which are 15 s apart.
 */
export const SLOW_POINT = paired('while its receiver has stopped for good', stalls, async (each, held) => {
  await reset(each.sender);
  await held.sees(({ pairs }) => pairs === 0);
  await reset(each.receiver);
});
