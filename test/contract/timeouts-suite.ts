import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { TRANSPORTS } from '../support/test-client.ts';
import { TestClock } from './test-clock.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import { until } from '../support/scratch.ts';
import { connectionsIn, sumOf } from './topology.ts';
import type { InProcessTopology, Setup } from './topology.ts';

/** Timeouts of these tests, in milliseconds. The relay checks that often whether they have expired. */
const HANDSHAKE_MS = 30;
const WAIT_MS = 50;
const IDLE_MS = 100;

/**
 * Timeouts of clients. No time passes until the test advances the clock. The handshake timeout runs at the relay that a client connects to; the timeouts of
 * waiting clients and pairs run at the relay that owns the token.
 */
export function timeoutsSuite({ name, open: openTopology }: Setup): void {
  async function open(
    context: TestContext,
    timeouts: NonNullable<TestRelayOptions['timeouts']>,
  ): Promise<{ topology: InProcessTopology; clock: TestClock }> {
    const clock = new TestClock();
    const topology = await openTopology(() => ({ timeouts, clock: clock.now }));
    context.after(() => topology.close());
    return { topology, clock };
  }

  for (const transport of TRANSPORTS) {
    describe(`${name}: a ${transport} client with a timeout`, () => {
      const code = transport === 'websocket' ? 1000 : null;

      test('for its handshake is closed without a reply, however much of it has arrived', async (context) => {
        const { topology, clock } = await open(context, { handshakeMs: HANDSHAKE_MS });
        const silent = await topology.connect(transport);
        const slow = await topology.connect(transport);
        await slow.send('please relay ');
        await until(() => connectionsIn(topology) === 2);
        clock.advance(HANDSHAKE_MS);
        for (const client of [silent, slow]) {
          assert.deepEqual(await client.closed, { reset: false, code });
          assert.equal(client.receivedBytes, 0);
        }
        const summaries = await topology.waitForRecords(2);
        assert.deepEqual(
          summaries.map(({ mood }) => mood),
          ['empty', 'empty'],
        );
        await topology.untilEmpty();
      });

      test('for its partner is closed, and its token is free', async (context) => {
        const { topology, clock } = await open(context, { waitMs: WAIT_MS });
        const token = newToken();
        const client = await topology.connect(transport);
        await client.send(handshake(token, SIDE_A));
        await until(() => topology.waiting() === 1);
        clock.advance(WAIT_MS);
        assert.deepEqual(await client.closed, { reset: false, code });
        const [summary] = await topology.waitForRecords(1);
        assert.deepEqual([summary?.mood, summary?.waitingMs], ['lonely', null]);
        assert.equal(topology.waiting(), 0);
        await topology.untilEmpty();
      });

      test('for its partner is closed while another client of its side waits too', async (context) => {
        const { topology, clock } = await open(context, { waitMs: WAIT_MS });
        const token = newToken();
        const first = await topology.connect('tcp');
        await first.send(handshake(token, SIDE_A));
        await until(() => topology.waiting() === 1);
        const client = await topology.connect(transport);
        await client.send(handshake(token, SIDE_A));
        await until(() => topology.waiting() === 2);
        clock.advance(WAIT_MS);
        assert.deepEqual(await client.closed, { reset: false, code });
        assert.equal(client.receivedBytes, 0);
        await first.closed;
        assert.deepEqual(
          (await topology.waitForRecords(2)).map(({ mood }) => mood),
          ['lonely', 'lonely'],
        );
        await topology.untilEmpty();
      });

      test('for idle pairs ends its pair, which has a record', async (context) => {
        const { topology, clock } = await open(context, { idleMs: IDLE_MS });
        const token = newToken();
        const [a, b] = [await topology.connect(transport), await topology.connect('tcp')];
        await a.send(handshake(token, SIDE_A));
        await b.send(handshake(token, SIDE_B));
        await until(() => a.receivedBytes >= 3);
        await a.send('some bytes');
        await until(() => b.receivedBytes === 13);
        // The pair is idle from the first check after its last byte.
        const ticking = setInterval(() => clock.advance(10), 10);
        context.after(() => clearInterval(ticking));
        assert.deepEqual(await a.closed, { reset: false, code });
        assert.deepEqual(await b.closed, { reset: false, code: null });
        assert.equal(b.received.toString(), 'ok\nsome bytes');
        const [summary, ...more] = await topology.waitForRecords(1);
        assert.deepEqual([summary?.mood, summary?.totalBytes, more], ['happy', 10, []]);
        await topology.untilEmpty();
      });

      test('that it did not reach is unaffected by that timeout in its next state', async (context) => {
        const { topology, clock } = await open(context, { handshakeMs: HANDSHAKE_MS, waitMs: WAIT_MS });
        const token = newToken();
        const a = await topology.connect(transport);
        await a.send(handshake(token, SIDE_A));
        await until(() => topology.waiting() === 1);
        const quick = await topology.connect(transport);
        await until(() => connectionsIn(topology) > 1);
        clock.advance(HANDSHAKE_MS);
        await quick.closed;
        assert.equal(topology.waiting(), 1);
        const b = await topology.connect(transport);
        await b.send(handshake(token, SIDE_B));
        await until(() => a.receivedBytes >= 3);
        const late = await topology.connect(transport);
        await late.send(handshake(newToken(), SIDE_A));
        await until(() => topology.waiting() === 1);
        clock.advance(WAIT_MS);
        await late.closed;
        assert.equal(
          sumOf(topology, ({ sessions }) => sessions.pairs),
          1,
        );
      });
    });
  }

  test(`${name}: an incomplete upgrade ends with the handshake timeout`, async (context) => {
    const { topology, clock } = await open(context, { handshakeMs: HANDSHAKE_MS });
    const socket = connect(topology.addresses().websocketPort, '127.0.0.1');
    await new Promise((resolve) => socket.write('GET / HTTP/1.1\r\nHost: relay\r\n', resolve));
    await until(() => connectionsIn(topology) === 1);
    // The relay has also read what the kernel has of the request.
    await nextTurn();
    clock.advance(HANDSHAKE_MS);
    const response = await buffer(socket);
    assert.match(response.toString(), /^HTTP\/1\.1 408 /u);
    assert.deepEqual(topology.summaries, []);
  });
}
