import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Linger } from '../../../src/transport/linger.ts';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { ScriptedStream } from '../../support/scripted-stream.ts';
import { TestRelay } from '../../support/test-relay.ts';
import type { TestClient } from '../../support/test-client.ts';

/** More than fits into the kernel's buffers. */
const PAYLOAD = randomBytesOf(1, 32_000_000);

interface OpenPair {
  readonly relay: TestRelay;
  readonly receiver: TestClient;
}

/** A pair whose sender has closed while most of its bytes are still in the relay and the kernel. */
async function open(context: TestContext, transport: 'tcp' | 'unix' | 'websocket'): Promise<OpenPair> {
  const relay = await TestRelay.open();
  context.after(() => relay.close());
  const token = newToken();
  const receiver = await relay.connect(transport);
  await receiver.send(handshake(token, SIDE_A));
  const sender = await relay.connect('tcp');
  await sender.send(handshake(token, SIDE_B));
  await Promise.all([receiver.until(3), sender.until(3)]);
  receiver.pause();
  const sent = sender.sendAll(PAYLOAD, 65_536);
  while (relay.sessions.bufferedBytes === 0) await nextTurn();
  // The receiver accepts nothing, as in a network outage.
  sender.reset();
  await sent;
  relay.sessions.sweep();
  while (relay.sessions.pairs > 0) {
    relay.sessions.sweep();
    await nextTurn();
  }
  return { relay, receiver };
}

/** The timeout restarts when a client has accepted bytes, so the time has to pass twice. */
async function passTime(context: TestContext, ms: number): Promise<void> {
  for (let round = 0; round < 2; round += 1) {
    context.mock.timers.tick(ms);
    await nextTurn();
  }
}

describe('a client whose partner has closed', () => {
  for (const transport of ['tcp', 'unix', 'websocket'] as const) {
    test(`has five minutes to accept the rest over ${transport}`, async (context) => {
      context.mock.timers.enable({ apis: ['setTimeout'] });
      const { relay, receiver } = await open(context, transport);
      const buffered = relay.sessions.bufferedBytes;
      assert.ok(buffered > 0);
      await passTime(context, 140_000);
      assert.equal(relay.sessions.bufferedBytes, buffered);
      receiver.resume();
      const { reset } = await receiver.closed;
      assert.equal(reset, false);
      assert.ok(receiver.receivedBytes > buffered);
      assert.equal(relay.sessions.bufferedBytes, 0);
    });

    test(`is closed if it accepts nothing for longer over ${transport}`, async (context) => {
      context.mock.timers.enable({ apis: ['setTimeout'] });
      const { relay } = await open(context, transport);
      await passTime(context, 300_000);
      while (relay.admission.connections > 0) await nextTurn();
      assert.equal(relay.sessions.bufferedBytes, 0);
    });
  }
});

test('a client without a partner is closed after 30 seconds', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const relay = await TestRelay.open();
  context.after(() => relay.close());
  const client = connect({ port: relay.tcpPort, host: '127.0.0.1', allowHalfOpen: true });
  context.after(() => client.destroy());
  client.write('no handshake at all\n');
  // It does not close its own end.
  assert.equal(await text(client), 'bad handshake\n');
  assert.equal(relay.admission.connections, 1);
  await passTime(context, 30_000);
  while (relay.admission.connections > 0) await nextTurn();
});

/** Records what is done with it. */
class RecordingStream extends ScriptedStream {
  readonly calls: string[] = [];
  override deliveredBytes = 0;

  override limitReadSize(): void {
    this.calls.push('limitReadSize');
  }

  override pause(): void {
    this.calls.push('pause');
  }

  override resume(): void {
    this.calls.push('resume');
  }

  override abort(): void {
    this.calls.push('abort');
  }
}

describe('a connection that lingers', () => {
  test('has the whole timeout again after each byte that the client accepts', (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const stream = new RecordingStream();
    const linger = new Linger(stream, 1000);
    for (let bytes = 1; bytes < 5; bytes += 1) {
      stream.deliveredBytes = bytes;
      context.mock.timers.tick(1000);
      assert.deepEqual(stream.calls, []);
    }
    context.mock.timers.tick(999);
    assert.deepEqual(stream.calls, []);
    context.mock.timers.tick(1);
    assert.deepEqual(stream.calls, ['abort']);
    linger.cancel();
  });

  test('is read slowly once 8 MiB have been discarded, and not at all after it is closed', (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const stream = new RecordingStream();
    const linger = new Linger(stream, 1000);
    linger.onDiscarded(2 ** 23);
    assert.deepEqual(stream.calls, []);
    const throttled = ['limitReadSize', 'pause'];
    linger.onDiscarded(1);
    // A read that was in progress.
    linger.onDiscarded(1);
    assert.deepEqual(stream.calls.splice(0), throttled);
    context.mock.timers.tick(49);
    assert.deepEqual(stream.calls, []);
    context.mock.timers.tick(1);
    assert.deepEqual(stream.calls.splice(0), ['resume']);
    linger.onDiscarded(1);
    assert.deepEqual(stream.calls.splice(0), throttled);
    linger.cancel();
    context.mock.timers.tick(5000);
    assert.deepEqual(stream.calls, []);
  });
});
