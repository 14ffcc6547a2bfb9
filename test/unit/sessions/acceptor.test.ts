import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { TrustedProxies, parseCidrs } from '../../../src/config/trusted-proxies.ts';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { UPGRADE_LINES, encodeFrame, readServerFrames } from '../../support/frames.ts';
import { TestRelay } from '../../support/test-relay.ts';
import type { TestRelayOptions } from '../../support/test-relay.ts';
import { until } from '../../support/scratch.ts';

const HEADERS_END = '\r\n\r\n';

/** Time after which a connection is closed that stays open after its response, in milliseconds. */
const HANDSHAKE_TIMEOUT_MS = 1000;

const PROXY_HEADER = 'PROXY TCP4 192.0.2.1 127.0.0.1 1111 4001\r\n';

async function open(context: TestContext, options: TestRelayOptions = {}): Promise<TestRelay> {
  const relay = await TestRelay.open(options);
  context.after(() => relay.close());
  return relay;
}

async function connectSocket(context: TestContext, port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  context.after(() => socket.destroy());
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Sends pieces of this size, each in its own tick of the event loop. */
async function send(socket: Socket, bytes: Uint8Array, pieceBytes: number): Promise<void> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    socket.write(bytes.subarray(at, at + pieceBytes));
    await nextTurn();
  }
}

/** Frames with all of these bytes, in fragments of several sizes. */
function framesOf(bytes: Uint8Array): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 100) {
    const payload = bytes.subarray(at, at + 100);
    frames.push(
      encodeFrame({ opcode: 2, payload: payload.subarray(0, 30), isFinal: false }),
      encodeFrame({ opcode: 0, payload: payload.subarray(30) }),
    );
  }
  return Buffer.concat(frames);
}

/** The payload of the binary messages from a server, without its response to the upgrade. */
function payloadIn(received: Buffer): string {
  const frames = readServerFrames(received.subarray(received.indexOf(HEADERS_END) + HEADERS_END.length));
  return frames.map(({ opcode, payload }) => (opcode === 2 ? payload.toString() : '')).join('');
}

for (const backend of ['shared buffer', 'standard streams'] as const) {
  describe(`bytes in the same segment as the header before them, with ${backend}`, () => {
    const options = {
      standardStreams: backend === 'standard streams',
      proxies: new TrustedProxies(parseCidrs('127.0.0.0/8')),
    };
    const payload = randomBytesOf(1, 2000);

    for (const [precedingHeaders, header] of [
      ['an upgrade', ''],
      ['a PROXY header and an upgrade', PROXY_HEADER],
    ] as const) {
      for (const pieceBytes of [1, 7, 200, 100_000]) {
        test(`are received after ${precedingHeaders}: the line and payload, ${pieceBytes} bytes at a time`, async (context) => {
          const relay = await open(context, options);
          for (const port of [relay.tcpPort, relay.websocketPort]) {
            const token = newToken();
            const partner = await relay.connect('tcp');
            await partner.send(handshake(token, SIDE_A));
            await until(() => relay.sessions.liveCounts().waiting === 1);
            const socket = await connectSocket(context, port);
            const line = encodeFrame({ opcode: 2, payload: handshake(token, SIDE_B) });
            const head = Buffer.from(`${header}${UPGRADE_LINES.join('\r\n')}${HEADERS_END}`);
            await send(socket, Buffer.concat([head, line, framesOf(payload)]), pieceBytes);
            const received = (await partner.until(3 + payload.length)).subarray(3);
            assert.ok(received.equals(payload));
            partner.end();
            // The relay waits for the client to close.
            const replies = buffer(socket);
            socket.end();
            assert.equal(payloadIn(await replies), 'ok\n');
            await until(() => relay.admission.connections === 0);
          }
        });
      }
    }

    test('are received after a PROXY header: a line and payload', async (context) => {
      const relay = await open(context, options);
      const token = newToken();
      const partner = await relay.connect('tcp');
      await partner.send(handshake(token, SIDE_A));
      await until(() => relay.sessions.liveCounts().waiting === 1);
      const socket = await connectSocket(context, relay.tcpPort);
      socket.write(Buffer.concat([Buffer.from(PROXY_HEADER + handshake(token, SIDE_B)), payload]));
      assert.ok((await partner.until(3 + payload.length)).subarray(3).equals(payload));
    });
  });

  // Each relay waits for its handshake timeout.
  describe(`an invalid upgrade, with ${backend}`, { concurrency: true }, () => {
    const without = (name: string): string[] => UPGRADE_LINES.filter((header) => !header.startsWith(name));
    const version = 'Sec-WebSocket-Version';
    const rejected: readonly (readonly [description: string, request: readonly string[], status: number])[] =
      [
        ['of another version', [...without(version), `${version}: 7`], 400],
        ['without a key', without('Sec-WebSocket-Key'), 400],
        ['with an invalid subprotocol', [...UPGRADE_LINES, 'Sec-WebSocket-Protocol: ,,'], 400],
        ['to something else', [...without('Upgrade'), 'Upgrade: h2c'], 426],
        [
          'to HTTP/2, as sent by Java clients and curl',
          ['GET / HTTP/1.1', 'Host: relay', 'Connection: Upgrade', 'Upgrade: h2c'],
          200,
        ],
        ['with a body', [...UPGRADE_LINES, 'Content-Length: 5'], 400],
        ['by another method', ['HEAD / HTTP/1.1', ...UPGRADE_LINES.slice(1)], 405],
        ['with too many headers', [...UPGRADE_LINES, `X-Long: ${'x'.repeat(20_000)}`], 431],
        ['with two lengths', [...UPGRADE_LINES, 'Content-Length: 1', 'Content-Length: 2'], 400],
        ['that ends its lines with only LF', [UPGRADE_LINES.join('\n') + '\n\n'], 400],
        ['of a connection that closes', [...without('Connection'), 'Connection: close'], 426],
        ['without a host', ['GET / HTTP/1.1'], 400],
        ['with an expectation', ['GET / HTTP/1.1', 'Host: relay', 'Expect: tea'], 417],
      ];
    for (const [description, request, status] of rejected) {
      test(`${description} is answered with ${status} and closed`, async (context) => {
        const standardStreams = backend === 'standard streams';
        const relay = await open(context, {
          standardStreams,
          timeouts: { handshakeMs: HANDSHAKE_TIMEOUT_MS },
        });
        for (const port of [relay.tcpPort, relay.websocketPort]) {
          const socket = await connectSocket(context, port);
          socket.write(request.join('\r\n') + HEADERS_END);
          // The client keeps its own end open.
          assert.match(await text(socket), new RegExp(`^HTTP/1\\.1 ${status} `, 'u'));
        }
        await until(() => relay.admission.connections === 0);
        assert.equal(relay.admission.totalConnections, 2);
        assert.deepEqual(relay.summaries, []);
      });
    }
  });

  test(`a client that requests many pages and does not read is closed, with ${backend}`, async (context) => {
    const standardStreams = backend === 'standard streams';
    const relay = await open(context, { standardStreams, timeouts: { handshakeMs: HANDSHAKE_TIMEOUT_MS } });
    const socket = await connectSocket(context, relay.tcpPort);
    socket.write(`GET / HTTP/1.1\r\nHost: relay\r\nAccept: text/html${HEADERS_END}`.repeat(20_000));
    await until(() => relay.admission.connections === 1);
    await until(() => relay.admission.connections === 0);
  });
}
