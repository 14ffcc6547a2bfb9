import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { UPGRADE, encodeFrame } from '../support/frames.ts';
import { until } from '../support/scratch.ts';
import type { Addresses, TestClient } from '../support/test-client.ts';
import type { Place } from './place.ts';

const PIECE_BYTES = 262_144;

/** What a relay takes from a client that it is done with is a few MiB, and what kernels hold. */
const MOST_BYTES = 64 * 2 ** 20;

/** A connection, ready for its line. */
const TRANSPORTS: Readonly<Record<string, (addresses: Addresses) => Promise<Socket>>> = {
  tcp: async ({ tcpPort }) => connect({ port: tcpPort, host: '127.0.0.1', allowHalfOpen: true }),
  unix: async ({ unixPath }) => connect({ path: unixPath, allowHalfOpen: true }),
  websocket: async ({ websocketPort }) => {
    const socket = connect({ port: websocketPort, host: '127.0.0.1', allowHalfOpen: true });
    socket.write(UPGRADE);
    await once(socket, 'data');
    return socket;
  },
};

/** How a client comes to be told to go. Each resolves when it has been. */
const REASONS: Readonly<
  Record<string, (place: Place, socket: Socket, say: (text: string) => void) => Promise<void>>
> = {
  'has no handshake': async (_place, socket, say) => {
    say('please relay nonsense\n');
    await once(socket, 'data');
  },
  'is impatient': async (place, socket, say) => {
    const { token } = await waiterIn(place);
    say(`${handshake(token, SIDE_A)}x`);
    await once(socket, 'data');
  },
  'has lost its partner': async (place, socket, say) => {
    const { token, waiter: partner } = await waiterIn(place);
    say(handshake(token, SIDE_B));
    await partner.until(3);
    socket.resume();
    partner.end();
    await partner.closed;
    await place.recorded(1);
  },
};

export interface FarewellSuiteOptions {
  /** Where the client is, in front of every name. */
  readonly name: string;
  readonly open: () => Promise<Place>;
}

/** Somebody with side A, at another relay than the client. */
async function waiterIn(place: Place): Promise<{ token: string; waiter: TestClient }> {
  const others = place.waiting();
  const token = newToken();
  const waiter = await place.connect('tcp', 0);
  await waiter.send(handshake(token, SIDE_A));
  await until(() => place.waiting() === others + 1);
  return { token, waiter };
}

/** Pours, until nothing more is taken. */
async function pour(socket: Socket): Promise<void> {
  socket.resume().on('error', () => undefined);
  const piece = Buffer.alloc(PIECE_BYTES, 0x82);
  let sent = 0;
  for (;;) {
    const taken = new Promise((resolve) => socket.write(piece, resolve));
    const isStuck = await Promise.race([taken.then(() => false), sleep(300).then(() => true)]);
    if (isStuck || socket.destroyed) return;
    sent += PIECE_BYTES;
    assert.ok(sent <= MOST_BYTES, `${sent} bytes were read of a client that was told to go`);
  }
}

/** What a client costs that stays when a relay is done with it. Where there are several, it is not at the one that has its token. */
export function farewellSuite({ name, open }: FarewellSuiteOptions): void {
  describe(`${name}: a client that pours on when it has been told to go is hardly read`, () => {
    let place: Place;
    before(async () => {
      place = await open();
    });
    after(() => place.close());

    for (const [transport, come] of Object.entries(TRANSPORTS)) {
      for (const [reason, provoke] of Object.entries(REASONS)) {
        test(`by ${transport}, when it ${reason}`, async (context) => {
          await place.forgetEndings();
          const socket = await come(place.addresses(1));
          context.after(() => socket.destroy());
          const say = (text: string): void => {
            socket.write(transport === 'websocket' ? encodeFrame({ opcode: 2, payload: text }) : text);
          };
          await provoke(place, socket, say);
          await pour(socket);
        });
      }
    }

    test('by websocket, when it has sent text', async (context) => {
      const socket = connect({
        port: place.addresses(1).websocketPort,
        host: '127.0.0.1',
        allowHalfOpen: true,
      });
      context.after(() => socket.destroy());
      socket.write(UPGRADE);
      await once(socket, 'data');
      socket.write(encodeFrame({ opcode: 1, payload: 'text' }));
      await once(socket, 'data');
      await pour(socket);
    });

    test('by HTTP', async (context) => {
      const socket = connect({ port: place.addresses(1).tcpPort, host: '127.0.0.1', allowHalfOpen: true });
      context.after(() => socket.destroy());
      socket.write('GET / HTTP/1.1\r\nHost: relay\r\nContent-Length: 99999999999\r\n\r\n');
      await once(socket, 'data');
      await pour(socket);
    });
  });
}
