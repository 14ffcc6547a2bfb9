import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createSecureContext } from 'node:tls';
import type { ByteStreamHandler } from '../../../src/transport/byte-stream.ts';
import { MIN_READ_BYTES, ReadScheduler } from '../../../src/transport/read-scheduler.ts';
import { TlsEngine, detectTlsBindings } from '../../../src/transport/tls-engine.ts';
import type { TlsBindings } from '../../../src/transport/tls-engine.ts';
import { SharedTlsState, TlsStream } from '../../../src/transport/tls-stream.ts';
import { detectUvHandles } from '../../../src/transport/uv-handle.ts';
import { ScriptedStream } from '../../support/scripted-stream.ts';

const TLS = {
  context: createSecureContext({ minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256' }),
  preSharedKey: { identity: 'test', key: Buffer.alloc(32, 7) },
};

let bindings: TlsBindings;

before(async () => {
  const uv = await detectUvHandles();
  assert.ok(uv !== null);
  const found = detectTlsBindings(uv);
  assert.ok(found !== null, 'this version of Node.js has no usable TLSWrap');
  bindings = found;
});

/** The connection below TLS. Records what is done with it. */
class Underlying extends ScriptedStream {
  readonly calls: string[] = [];
  /** Ciphertext for the client. */
  readonly sent: Buffer[] = [];

  override writeParts(parts: readonly Uint8Array[] = []): boolean {
    this.sent.push(Buffer.concat(parts));
    return true;
  }

  override limitReadSize(): void {
    this.calls.push('limitReadSize');
  }

  override end(): void {
    this.calls.push('end');
  }

  override abort(): void {
    this.calls.push('abort');
    super.abort();
  }
}

/** A TLS server, and an OpenSSL client that the test controls. */
class Fixture implements ByteStreamHandler {
  readonly underlying = new Underlying();
  readonly scheduler = new ReadScheduler(2 ** 20);
  readonly stream: TlsStream;
  readonly client: TlsEngine;
  /** Plaintext that the stream delivered; one element for each `onBytes`. */
  readonly received: string[] = [];
  readonly events: string[] = [];
  readonly clientReceived: string[] = [];
  #toServer: Buffer[] = [];

  constructor() {
    const shared = new SharedTlsState(bindings, this.scheduler);
    this.stream = new TlsStream(this.underlying, shared, {
      ...TLS,
      role: 'server',
      firstBytes: new Uint8Array(0),
      observer: {
        onReady: () => this.events.push('ready'),
        onFailed: () => this.events.push('failed'),
      },
    });
    this.stream.start(this);
    this.client = new TlsEngine(
      bindings,
      { ...TLS, role: 'client' },
      {
        onPlaintext: (bytes) => this.clientReceived.push(Buffer.from(bytes).toString('latin1')),
        onCloseNotify: () => this.clientReceived.push('close_notify'),
        onHandshakeDone: () => undefined,
        onError: (code) => this.clientReceived.push(code),
        onCiphertext: (parts) => this.#toServer.push(Buffer.concat(parts)),
      },
    );
  }

  static connected(): Fixture {
    const fixture = new Fixture();
    fixture.client.start();
    fixture.deliver();
    fixture.receive();
    fixture.deliver();
    // Session tickets.
    fixture.receive();
    assert.deepEqual(fixture.events, ['ready']);
    return fixture;
  }

  /** The server reads everything that the client has sent, at once. */
  deliver(): void {
    this.underlying.feed(this.take());
  }

  take(): string {
    return Buffer.concat(this.#toServer.splice(0)).toString('latin1');
  }

  /** The client reads everything that the server has sent. */
  receive(): void {
    for (const bytes of this.underlying.sent.splice(0)) this.client.receive(bytes);
  }

  /** The client sends each of these characters in a record of its own. */
  sendRecords(text: string): void {
    for (const character of text) this.client.write([Buffer.from(character)]);
  }

  onBytes(bytes: Uint8Array): void {
    this.received.push(Buffer.from(bytes).toString('latin1'));
  }

  onWritable(): void {
    this.events.push('writable');
  }

  onEnd(): void {
    this.events.push('end');
  }

  onClose(): void {
    this.events.push('close');
  }
}

describe('a TLS stream', () => {
  test('delivers all records of a read together', () => {
    const fixture = Fixture.connected();
    const text = 'records'.repeat(10);
    fixture.sendRecords(text);
    fixture.deliver();
    assert.deepEqual(fixture.received, [text]);
    assert.deepEqual(fixture.underlying.calls, []);
  });

  test('defers small reads of a client whose records have a few bytes, and counts them as buffered', async () => {
    const fixture = Fixture.connected();
    const { underlying, scheduler, received } = fixture;
    fixture.sendRecords('a'.repeat(127));
    fixture.deliver();
    assert.deepEqual(underlying.calls, []);
    fixture.sendRecords('b'.repeat(128));
    fixture.deliver();
    assert.deepEqual(underlying.calls, ['limitReadSize']);
    received.length = 0;
    fixture.sendRecords('c'.repeat(10));
    const ciphertext = fixture.take();
    assert.ok(ciphertext.length <= MIN_READ_BYTES);
    underlying.feed(ciphertext);
    assert.deepEqual(received, []);
    assert.equal(underlying.isPaused, true);
    assert.equal(scheduler.bufferedBytes, ciphertext.length);
    await nextTurn();
    assert.deepEqual(received, ['c'.repeat(10)]);
    assert.equal(underlying.isPaused, false);
    assert.equal(scheduler.bufferedBytes, 0);
    assert.deepEqual(underlying.calls, ['limitReadSize']);
  });

  test('holds a deferred read back while it is paused, and drops it when it closes', async () => {
    const fixture = Fixture.connected();
    const { underlying, stream, scheduler, received } = fixture;
    fixture.sendRecords('a'.repeat(200));
    fixture.deliver();
    received.length = 0;
    fixture.sendRecords('b');
    fixture.deliver();
    stream.pause();
    await nextTurn();
    assert.deepEqual(received, []);
    stream.resume();
    await nextTurn();
    assert.deepEqual(received, ['b']);
    fixture.sendRecords('c');
    fixture.deliver();
    assert.ok(scheduler.bufferedBytes > 0);
    underlying.abort();
    assert.equal(scheduler.bufferedBytes, 0);
    await nextTurn();
    assert.deepEqual(received, ['b']);
    assert.deepEqual(fixture.events, ['ready', 'close']);
  });

  test('does not treat large records as small ones, though a read may end within one', () => {
    const fixture = Fixture.connected();
    fixture.client.write([Buffer.alloc(40_000, 'a')]);
    const ciphertext = fixture.take();
    for (let at = 0; at < ciphertext.length; at += 5000)
      fixture.underlying.feed(ciphertext.slice(at, at + 5000));
    assert.equal(fixture.received.join('').length, 40_000);
    assert.deepEqual(fixture.underlying.calls, []);
  });

  test('sends several parts in as few records as possible, and close_notify before its FIN', () => {
    const fixture = Fixture.connected();
    const { stream, underlying, clientReceived } = fixture;
    assert.equal(stream.writeParts(['one ', 'two ', 'three'].map((text) => Buffer.from(text))), true);
    assert.equal(underlying.sent.length, 1);
    fixture.receive();
    assert.deepEqual(clientReceived, ['one two three']);
    stream.end();
    stream.end();
    assert.deepEqual(underlying.calls, ['end']);
    fixture.receive();
    assert.deepEqual(clientReceived, ['one two three', 'close_notify']);
    // Too late.
    assert.equal(stream.write(Buffer.from('four')), true);
    assert.equal(underlying.sent.length, 0);
    fixture.client.write([Buffer.from('still read')]);
    fixture.deliver();
    assert.deepEqual(fixture.received, ['still read']);
  });

  test('reports close_notify as the end, after the plaintext and only once', () => {
    const fixture = Fixture.connected();
    fixture.client.write([Buffer.from('last')]);
    fixture.client.shutdown();
    fixture.deliver();
    assert.deepEqual([fixture.received, fixture.events], [['last'], ['ready', 'end']]);
    fixture.stream.onEnd();
    assert.deepEqual(fixture.events, ['ready', 'end']);
  });

  test('is aborted when its handshake fails, with an alert, or when it is closed before', () => {
    const failing = new Fixture();
    failing.underlying.feed('GET / HTTP/1.1\r\n\r\n');
    assert.deepEqual(failing.events, ['failed', 'close']);
    const closing = new Fixture();
    closing.stream.end();
    assert.deepEqual(closing.underlying.calls, ['abort']);
    assert.deepEqual(closing.events, ['close']);
  });
});
