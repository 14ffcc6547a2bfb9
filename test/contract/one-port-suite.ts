import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { connect as connectTls, createSecureContext } from 'node:tls';
import { WebSocket, createWebSocketStream } from 'ws';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { makeIdentity } from '../support/certificates.ts';
import { until } from '../support/scratch.ts';
import type { Setup } from './topology.ts';

const { key, certificate: cert } = makeIdentity();

/** Every listener of a relay may use this certificate. */
export const certificate = { context: createSecureContext({ key, cert }) };

/** The protocols that a client may use on the shared port for raw clients. */
const PROTOCOLS = {
  'raw bytes': async (port: number) => {
    const socket = connect({ port, host: '127.0.0.1' });
    await once(socket, 'connect');
    return socket;
  },
  WebSocket: async (port: number) => stream(new WebSocket(`ws://127.0.0.1:${port}/any/path`)),
  'raw bytes in TLS': async (port: number) => {
    const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    return socket;
  },
  'WebSocket in TLS': async (port: number) =>
    stream(new WebSocket(`wss://127.0.0.1:${port}/`, { rejectUnauthorized: false })),
} as const;

async function stream(websocket: WebSocket): Promise<ReturnType<typeof createWebSocketStream>> {
  await once(websocket, 'open');
  return createWebSocketStream(websocket);
}

/** Reads the next `count` bytes. */
export async function readBytes(from: NodeJS.ReadableStream, count: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  while (bytes < count) {
    const chunk: unknown = from.read();
    if (Buffer.isBuffer(chunk)) {
      chunks.push(chunk);
      bytes += chunk.length;
    } else {
      await once(from, 'readable');
    }
  }
  return Buffer.concat(chunks);
}

/** Every pair of protocols on one port that accepts all of them. */
export function onePortSuite({ name, open }: Setup): void {
  for (const backend of ['shared buffer', 'standard streams'] as const) {
    const backendOptions = { standardStreams: backend === 'standard streams' };

    describe(`${name}: one port for all protocols, with ${backend}`, () => {
      for (const [first, connectFirst] of Object.entries(PROTOCOLS)) {
        for (const [second, connectSecond] of Object.entries(PROTOCOLS)) {
          test(`pairs ${first} with ${second}, and relays every byte in both directions`, async (context) => {
            const topology = await open(() => ({ certificate, ...backendOptions }));
            context.after(() => topology.close());
            const a = await connectFirst(topology.addresses().tcpPort);
            const b = await connectSecond(topology.addresses().tcpPort);
            const token = newToken();
            a.write(handshake(token, SIDE_A));
            await until(() => topology.waiting() === 1);
            b.write(handshake(token, SIDE_B));
            assert.equal((await readBytes(a, 3)).toString(), 'ok\n');
            assert.equal((await readBytes(b, 3)).toString(), 'ok\n');
            const [fromA, fromB] = [randomBytesOf(1, 3_000_000), randomBytesOf(2, 2_000_000)];
            a.write(fromA);
            b.write(fromB);
            const [receivedByA, receivedByB] = await Promise.all([
              readBytes(a, fromB.length),
              readBytes(b, fromA.length),
            ]);
            assert.ok(receivedByA.equals(fromB) && receivedByB.equals(fromA));
            a.end();
            const [summary] = await topology.waitForRecords(1);
            assert.deepEqual([summary?.mood, summary?.totalBytes], ['happy', 5_000_000]);
            b.destroy();
            a.destroy();
            await topology.untilEmpty();
          });
        }
      }
    });
  }
}
