import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { TestRelay } from '../support/test-relay.ts';
import type { TestClient } from '../support/test-client.ts';

/** More than the kernel's buffers take. */
const PAYLOAD = randomBytesOf(1, 32_000_000);

interface Place {
  readonly house: TestRelay;
  readonly receiver: TestClient;
}

/** A pair whose sender has left, while most of what it sent is still in the relay and the kernel. */
async function open(context: TestContext, transport: 'tcp' | 'unix' | 'websocket'): Promise<Place> {
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
  // As when the network is gone: the receiver takes nothing.
  sender.reset();
  await sent;
  relay.sessions.sweep();
  while (relay.sessions.pairs > 0) {
    relay.sessions.sweep();
    await nextTurn();
  }
  return { house: relay, receiver };
}

/** A client's own time to take what it was sent starts again with each byte, so time has to pass twice. */
async function pass(context: TestContext, ms: number): Promise<void> {
  for (let round = 0; round < 2; round += 1) {
    context.mock.timers.tick(ms);
    await nextTurn();
  }
}

describe('a client whose partner has left', () => {
  for (const transport of ['tcp', 'unix', 'websocket'] as const) {
    test(`has five minutes to take the rest, by ${transport}`, async (context) => {
      context.mock.timers.enable({ apis: ['setTimeout'] });
      const { house: relay, receiver } = await open(context, transport);
      const held = relay.sessions.bufferedBytes;
      assert.ok(held > 0);
      await pass(context, 140_000);
      assert.equal(relay.sessions.bufferedBytes, held);
      receiver.resume();
      const { reset } = await receiver.closed;
      assert.equal(reset, false);
      assert.ok(receiver.receivedBytes > held);
      assert.equal(relay.sessions.bufferedBytes, 0);
    });

    test(`is closed when it takes nothing for longer, by ${transport}`, async (context) => {
      context.mock.timers.enable({ apis: ['setTimeout'] });
      const { house: relay } = await open(context, transport);
      await pass(context, 300_000);
      while (relay.admission.connections > 0) await nextTurn();
      assert.equal(relay.sessions.bufferedBytes, 0);
    });
  }
});

test('a client that had no partner is closed after half a minute', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const relay = await TestRelay.open();
  context.after(() => relay.close());
  const client = connect({ port: relay.tcpPort, host: '127.0.0.1', allowHalfOpen: true });
  context.after(() => client.destroy());
  client.write('no handshake at all\n');
  // It does not close its own end.
  assert.equal(await text(client), 'bad handshake\n');
  assert.equal(relay.admission.connections, 1);
  await pass(context, 30_000);
  while (relay.admission.connections > 0) await nextTurn();
});
