import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createSecureContext } from 'node:tls';
import * as fc from 'fast-check';
import { TlsEngine, detectTlsBindings } from '../../../src/transport/tls-engine.ts';
import type { TlsBindings, TlsOptions } from '../../../src/transport/tls-engine.ts';
import { detectUvHandles } from '../../../src/transport/uv-handle.ts';
import { randomBytesOf } from '../../support/bytes.ts';
import { makeIdentity } from '../../support/certificates.ts';

const MAX_RECORD_BYTES = 16_384;

const SHARED = { identity: 'test', key: Buffer.alloc(32, 7) };

const pskContext = createSecureContext({ minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256' });

let bindings: TlsBindings;

/** One end of a connection in memory. */
class End {
  readonly engine: TlsEngine;
  readonly events: string[] = [];
  received = Buffer.alloc(0);
  largestRecord = 0;
  /** Ciphertext for the other end; one element for each `onCiphertext`. */
  readonly sent: Buffer[] = [];

  constructor(role: TlsOptions['role'], options: Partial<TlsOptions> = {}) {
    this.engine = new TlsEngine(
      bindings,
      { role, context: pskContext, preSharedKey: SHARED, ...options },
      {
        onPlaintext: (bytes) => {
          this.largestRecord = Math.max(this.largestRecord, bytes.length);
          this.received = Buffer.concat([this.received, bytes]);
        },
        onCloseNotify: () => this.events.push('close_notify'),
        onHandshakeDone: () => this.events.push('ready'),
        onError: (code) => this.events.push(code),
        onCiphertext: (parts) => this.sent.push(Buffer.concat(parts)),
      },
    );
  }

  /** Delivers everything that this end has sent, in pieces of `pieceBytes`. */
  deliverTo(other: End, pieceBytes = Number.POSITIVE_INFINITY): void {
    const bytes = Buffer.concat(this.sent.splice(0));
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      other.engine.receive(bytes.subarray(at, Math.min(at + pieceBytes, bytes.length)));
    }
  }
}

function shakeHands(client: End, server: End, pieceBytes?: number): void {
  client.engine.start();
  while (client.sent.length + server.sent.length > 0) {
    client.deliverTo(server, pieceBytes);
    server.deliverTo(client, pieceBytes);
  }
}

function connected(): { readonly client: End; readonly server: End } {
  const client = new End('client');
  const server = new End('server');
  shakeHands(client, server);
  assert.deepEqual([client.events, server.events], [['ready'], ['ready']]);
  return { client, server };
}

before(async () => {
  const uv = await detectUvHandles();
  assert.ok(uv !== null, 'this version of Node.js has no usable libuv handles');
  const found = detectTlsBindings(uv);
  assert.ok(found !== null, 'this version of Node.js has no usable TLSWrap');
  bindings = found;
});

function partsOf(bytes: Uint8Array, size: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += Math.ceil(size))
    parts.push(bytes.subarray(at, at + Math.ceil(size)));
  return parts;
}

describe('TLS without a socket', () => {
  test('sends any bytes both ways, however plaintext and ciphertext are split', () => {
    const payload = randomBytesOf(1, 300_000);
    const size = fc.oneof(
      fc.constantFrom(1, MAX_RECORD_BYTES - 1, MAX_RECORD_BYTES, MAX_RECORD_BYTES + 1),
      fc.constantFrom(65_535, 65_536, 65_537, 163_840, 200_000, 300_000),
      fc.integer({ min: 1, max: 100_000 }),
    );
    const message = fc.record({
      fromClient: fc.boolean(),
      bytes: size,
      part: size,
      piece: fc.integer({ min: 500, max: 200_000 }),
    });
    fc.assert(
      fc.property(fc.array(message, { maxLength: 6 }), (messages) => {
        const { client, server } = connected();
        for (const { fromClient, bytes, part, piece } of messages) {
          const [from, to] = fromClient ? [client, server] : [server, client];
          const plaintext = Uint8Array.from(payload.subarray(0, bytes));
          // At most 1,000 parts.
          assert.equal(from.engine.write(partsOf(plaintext, Math.max(part, bytes / 1000))), true);
          // The caller may reuse its memory.
          plaintext.fill(0);
          assert.equal(from.sent.length, 1, 'the ciphertext of a write is not sent at once');
          from.deliverTo(to, piece);
          assert.ok(to.received.equals(payload.subarray(0, bytes)));
          to.received = Buffer.alloc(0);
          assert.ok(to.largestRecord <= MAX_RECORD_BYTES);
        }
        client.engine.close();
        server.engine.close();
      }),
      { numRuns: 40 },
    );
  });

  test('completes a handshake whose bytes arrive one at a time', () => {
    const client = new End('client');
    const server = new End('server');
    shakeHands(client, server, 1);
    assert.deepEqual([client.events, server.events], [['ready'], ['ready']]);
  });

  test('reports close_notify once, and can still send in the other direction', () => {
    const { client, server } = connected();
    client.engine.write([Buffer.from('last')]);
    client.engine.shutdown();
    client.deliverTo(server);
    assert.equal(server.received.toString(), 'last');
    assert.deepEqual(server.events, ['ready', 'close_notify']);
    server.engine.write([Buffer.from('reply')]);
    server.deliverTo(client);
    assert.equal(client.received.toString(), 'reply');
  });

  test('works with a certificate', () => {
    const { key, certificate: cert } = makeIdentity();
    const client = new End('client', { context: createSecureContext(), preSharedKey: null });
    const server = new End('server', { context: createSecureContext({ key, cert }), preSharedKey: null });
    shakeHands(client, server);
    assert.deepEqual([client.events, server.events], [['ready'], ['ready']]);
  });

  test('fails at both ends if the keys or their names differ', () => {
    for (const preSharedKey of [
      { ...SHARED, key: Buffer.alloc(32, 8) },
      { ...SHARED, identity: 'other' },
    ]) {
      const client = new End('client', { preSharedKey });
      const server = new End('server');
      shakeHands(client, server);
      for (const { events } of [client, server]) {
        assert.equal(events.length, 1);
        assert.match(events[0] ?? '', /^ERR_SSL_/u);
      }
    }
  });

  test('does not accept a certificate in place of a shared key', () => {
    const { key, certificate: cert } = makeIdentity();
    const client = new End('client', { context: createSecureContext() });
    const server = new End('server', { context: createSecureContext({ key, cert }), preSharedKey: null });
    shakeHands(client, server);
    assert.deepEqual(client.events, ['ERR_TLS_KEY_NOT_SHARED']);
  });

  test('reports damaged ciphertext, and sends an alert', () => {
    const { client, server } = connected();
    client.engine.write([Buffer.from('data')]);
    const last = client.sent[0]?.length ?? 0;
    client.sent[0]?.writeUInt8(~(client.sent[0]?.readUInt8(last - 1) ?? 0) & 0xff, last - 1);
    client.deliverTo(server);
    assert.equal(server.received.length, 0);
    assert.deepEqual(server.events, ['ready', 'ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC']);
    assert.equal(server.sent.length, 1);
    assert.equal(server.engine.write([Buffer.from('data')]), false);
  });

  test('calls nothing after it is closed, also from within a callback', async () => {
    const { client, server } = connected();
    client.engine.write([Buffer.from('data')]);
    server.engine.close();
    server.engine.close();
    client.deliverTo(server);
    await nextTurn();
    client.engine.write([Buffer.from('data')]);
    client.deliverTo(server);
    assert.equal(server.received.length, 0);
    assert.deepEqual(server.events, ['ready']);
    assert.deepEqual(server.sent, []);
  });
});
