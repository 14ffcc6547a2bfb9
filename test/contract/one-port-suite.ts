import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { connect as connectTls, createSecureContext } from 'node:tls';
import { WebSocket, createWebSocketStream } from 'ws';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { makeIdentity } from '../support/certificates.ts';
import { until } from '../support/scratch.ts';
import type { OpenPlace } from './place.ts';

const { key, certificate: cert } = makeIdentity();

/** Every listener of a house may have this one. */
export const certificate = { context: createSecureContext({ key, cert }) };

/** What a client can say to the one port for raw clients. */
const LANGUAGES = {
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

/** The next `count` bytes. */
export async function take(from: NodeJS.ReadableStream, count: number): Promise<Buffer> {
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

/**
 * Who speaks what, by way of the one port that takes in all of it, and with whom.
 *
 * @param name where clients are, in front of every name
 */
export function onePortSuite(name: string, open: OpenPlace): void {
  for (const backend of ['shared buffer', 'standard streams'] as const) {
    const planeOptions = { standardStreams: backend === 'standard streams' };

    describe(`${name}: one port for everything, by ${backend}`, () => {
      for (const [first, connectFirst] of Object.entries(LANGUAGES)) {
        for (const [second, connectSecond] of Object.entries(LANGUAGES)) {
          test(`pairs ${first} with ${second}, and moves every byte both ways`, async (context) => {
            const place = await open(() => ({ certificate, ...planeOptions }));
            context.after(() => place.close());
            const a = await connectFirst(place.addresses().tcpPort);
            const b = await connectSecond(place.addresses().tcpPort);
            const token = newToken();
            a.write(handshake(token, SIDE_A));
            await until(() => place.waiting() === 1);
            b.write(handshake(token, SIDE_B));
            assert.equal((await take(a, 3)).toString(), 'ok\n');
            assert.equal((await take(b, 3)).toString(), 'ok\n');
            const [fromA, fromB] = [randomBytesOf(1, 3_000_000), randomBytesOf(2, 2_000_000)];
            a.write(fromA);
            b.write(fromB);
            const [atA, atB] = await Promise.all([take(a, fromB.length), take(b, fromA.length)]);
            assert.ok(atA.equals(fromB) && atB.equals(fromA));
            a.end();
            const [summary] = await place.recorded(1);
            assert.deepEqual([summary?.mood, summary?.totalBytes], ['happy', 5_000_000]);
            b.destroy();
            a.destroy();
            await place.deserted();
          });
        }
      }
    });
  }
}
