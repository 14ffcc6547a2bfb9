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
import type { Setup, Topology } from './topology.ts';

const CHUNK_BYTES = 262_144;

/** A relay discards a few MiB from a client that it closes; kernel buffers take the rest. */
const MAX_BYTES = 64 * 2 ** 20;

/** A connection that is ready for its handshake. */
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

/** Reasons for the relay to close the client. Each function resolves when the relay has sent its reply. */
const REASONS: Readonly<
  Record<string, (topology: Topology, socket: Socket, send: (text: string) => void) => Promise<void>>
> = {
  'has no handshake': async (_topology, socket, send) => {
    send('please relay nonsense\n');
    await once(socket, 'data');
  },
  'is impatient': async (topology, socket, send) => {
    const { token } = await addWaiting(topology);
    send(`${handshake(token, SIDE_A)}x`);
    await once(socket, 'data');
  },
  'has lost its partner': async (topology, socket, send) => {
    const { token, waiter: partner } = await addWaiting(topology);
    send(handshake(token, SIDE_B));
    await partner.until(3);
    socket.resume();
    await partner.leave();
    await topology.waitForRecords(1);
  },
};

/** A client with side A, at another relay than the client under test. */
async function addWaiting(topology: Topology): Promise<{ token: string; waiter: TestClient }> {
  const others = topology.waiting();
  const token = newToken();
  const waiter = await topology.connect('tcp', 0);
  await waiter.send(handshake(token, SIDE_A));
  await until(() => topology.waiting() === others + 1);
  return { token, waiter };
}

/** Writes until the socket accepts nothing more. */
async function sendUntilBlocked(socket: Socket): Promise<void> {
  socket.resume().on('error', () => undefined);
  const chunk = Buffer.alloc(CHUNK_BYTES, 0x82);
  let sent = 0;
  for (;;) {
    const written = new Promise((resolve) => socket.write(chunk, resolve));
    const isStuck = await Promise.race([written.then(() => false), sleep(300).then(() => true)]);
    if (isStuck || socket.destroyed) return;
    sent += CHUNK_BYTES;
    assert.ok(sent <= MAX_BYTES, `${sent} bytes were read from a client that is being closed`);
  }
}

/**
 * Cost of a client that keeps sending after the relay has closed it. In a cluster it is not connected to the
 * owner of its token.
 */
export function finalCloseSuite({ name, open }: Setup<Topology>): void {
  describe(`${name}: a client that keeps sending after its final reply is read only a little`, () => {
    let topology: Topology;
    before(async () => {
      topology = await open();
    });
    after(() => topology.close());

    for (const [transport, connectClient] of Object.entries(TRANSPORTS)) {
      for (const [reason, trigger] of Object.entries(REASONS)) {
        test(`by ${transport}, if it ${reason}`, async (context) => {
          await topology.clearSummaries();
          const socket = await connectClient(topology.addresses(1));
          context.after(() => socket.destroy());
          const send = (text: string): void => {
            socket.write(transport === 'websocket' ? encodeFrame({ opcode: 2, payload: text }) : text);
          };
          await trigger(topology, socket, send);
          await sendUntilBlocked(socket);
        });
      }
    }

    test('by websocket, if it has sent text', async (context) => {
      const socket = connect({
        port: topology.addresses(1).websocketPort,
        host: '127.0.0.1',
        allowHalfOpen: true,
      });
      context.after(() => socket.destroy());
      socket.write(UPGRADE);
      await once(socket, 'data');
      socket.write(encodeFrame({ opcode: 1, payload: 'text' }));
      await once(socket, 'data');
      await sendUntilBlocked(socket);
    });

    test('by HTTP', async (context) => {
      const socket = connect({ port: topology.addresses(1).tcpPort, host: '127.0.0.1', allowHalfOpen: true });
      context.after(() => socket.destroy());
      socket.write('GET / HTTP/1.1\r\nHost: relay\r\nContent-Length: 99999999999\r\n\r\n');
      await once(socket, 'data');
      await sendUntilBlocked(socket);
    });
  });
}
