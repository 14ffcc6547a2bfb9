import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import { until } from '../support/scratch.ts';
import { TRANSPORTS } from '../support/test-client.ts';
import type { TestClient } from '../support/test-client.ts';
import { connectionsIn, rejectedIn } from './topology.ts';
import type { InProcessTopology, Setup } from './topology.ts';

/**
 * A client that waits for a partner.
 *
 * @param at index of the relay; by default the first
 */
export async function startWaiting(
  topology: InProcessTopology,
  transport: TransportKind,
  token = newToken(),
  at = 0,
): Promise<TestClient> {
  const others = topology.waiting();
  const client = await topology.connect(transport, at);
  await client.send(handshake(token, SIDE_A));
  await until(() => topology.waiting() === others + 1);
  return client;
}

/** Checks that a client that sends a token gets `reply` and is closed. */
export async function expectRejected(
  client: TestClient,
  reply: string,
  token = newToken(),
  side = SIDE_B,
): Promise<void> {
  await client.send(handshake(token, side));
  assert.deepEqual(await client.closed, {
    reset: false,
    code: client.transport === 'websocket' ? 1013 : null,
  });
  assert.equal(client.received.toString(), `${reply}\n`);
}

/** Checks that a client gets the reply of a paired client. */
async function expectPaired(client: TestClient): Promise<void> {
  assert.equal((await client.until(3)).toString(), 'ok\n');
}

/**
 * Which clients are rejected, with which reply, and how this affects other clients. A client waits at the
 * first relay, and others connect to the last one, which may be the same. Each relay has its own limits: a
 * client must be accepted there before its token is looked up in the cluster.
 */
export function rejectionsSuite({ name, open: openTopology, relayCount }: Setup): void {
  const isPartnerRemote = relayCount > 1;

  async function open(context: TestContext, options: () => TestRelayOptions): Promise<InProcessTopology> {
    const topology = await openTopology(options);
    context.after(() => topology.close());
    return topology;
  }

  const lastRelay = isPartnerRemote ? 1 : 0;

  for (const transport of TRANSPORTS) {
    describe(`${name}: a ${transport} client`, () => {
      test('gets "busy" if its relay is full, is counted, and has no record', async (context) => {
        const topology = await open(context, () => ({ limits: { maxConnections: 2 } }));
        const token = newToken();
        const first = await startWaiting(topology, transport, token);
        // Their address is unknown, so their connections are not evicted for another client.
        const others = [await startWaiting(topology, 'unix', newToken(), lastRelay)];
        if (isPartnerRemote) others.push(await startWaiting(topology, 'unix', newToken(), lastRelay));
        await expectRejected(await topology.connect(transport, lastRelay), 'busy', token);
        await until(() => rejectedIn(topology, 'connections') === 1);
        assert.equal(connectionsIn(topology), 1 + others.length);
        // Once a client has left there is a free connection, and the waiting client is unaffected.
        others[0]?.destroy();
        await until(() => connectionsIn(topology) === others.length);
        const partner = await topology.connect(transport, lastRelay);
        await partner.send(handshake(token, SIDE_B));
        await expectPaired(partner);
        await expectPaired(first);
        assert.deepEqual(
          topology.summaries.map(({ mood }) => mood),
          ['lonely'],
        );
      });

      test('gets "busy" if the relay of its partner is full', async (context) => {
        const topology = await open(context, () => ({ limits: { maxConnections: 2 } }));
        const token = newToken();
        const first = await startWaiting(topology, transport, token);
        // Its address is unknown, so its connection is not evicted for another client.
        const other = await startWaiting(topology, 'unix');
        await expectRejected(await topology.connect(transport, lastRelay), 'busy', token);
        await until(() => rejectedIn(topology, 'connections') === 1);
        other.destroy();
        await until(() => connectionsIn(topology) === 1);
        const partner = await topology.connect(transport, lastRelay);
        await partner.send(handshake(token, SIDE_B));
        await expectPaired(partner);
        await expectPaired(first);
        assert.equal(topology.summaries.length, 1);
      });

      test('gets "busy" if its relay has the maximum number of waiting clients', async (context) => {
        const topology = await open(context, () => ({ limits: { maxWaiting: 1 } }));
        const token = newToken();
        const first = await startWaiting(topology, transport, token);
        const other = isPartnerRemote ? await startWaiting(topology, 'tcp', newToken(), lastRelay) : null;
        await expectRejected(await topology.connect(transport, lastRelay), 'busy');
        // Another client of the waiting side would wait too.
        await expectRejected(await topology.connect(transport, lastRelay), 'busy', token, SIDE_A);
        if (isPartnerRemote)
          await expectRejected(await topology.connect(transport, lastRelay), 'busy', token);
        await until(() => rejectedIn(topology, 'waiting') === (isPartnerRemote ? 3 : 2));
        other?.destroy();
        await until(() => topology.waiting() === 1);
        const partner = await topology.connect(transport, lastRelay);
        await partner.send(handshake(token, SIDE_B));
        await expectPaired(partner);
        await expectPaired(first);
        assert.equal(topology.summaries.length, isPartnerRemote ? 1 : 0);
      });

      test('is accepted if its partner’s relay has the maximum number of waiting clients, because it will not wait', async (context) => {
        const topology = await open(context, () => ({ limits: { maxWaiting: 1 } }));
        const token = newToken();
        const first = await startWaiting(topology, transport, token);
        // Another client of the waiting side would wait there.
        await expectRejected(await topology.connect(transport, lastRelay), 'busy', token, SIDE_A);
        const partner = await topology.connect(transport, lastRelay);
        await partner.send(handshake(token, SIDE_B));
        await expectPaired(partner);
        await expectPaired(first);
        assert.deepEqual(topology.summaries, []);
      });

      for (const [where, at] of isPartnerRemote
        ? ([
            ['at its relay', 1],
            ['at the relay of its partner', 0],
          ] as const)
        : ([['there', 0]] as const)) {
        test(`gets "over quota" if the quota is exhausted ${where}, even if a partner waits`, async (context) => {
          const topology = await open(context, () => ({}));
          const token = newToken();
          const first = await startWaiting(topology, transport, token);
          const relay = topology.relays[at];
          assert.ok(relay !== undefined);
          relay.admission.isOverQuota = true;
          await expectRejected(await topology.connect(transport, lastRelay), 'over quota', token);
          await until(() => rejectedIn(topology, 'quota') === 1);
          assert.equal(topology.waiting(), 1);
          relay.sessions.closeWaiting();
          if (at === 0) {
            assert.equal((await first.until(11)).toString(), 'over quota\n');
            assert.deepEqual(await first.closed, {
              reset: false,
              code: transport === 'websocket' ? 1013 : null,
            });
          } else {
            // Each relay has its own quota.
            assert.equal(first.isClosed, false);
            first.end();
          }
          const [summary] = await topology.waitForRecords(1);
          assert.deepEqual([summary?.mood, topology.summaries.length], ['lonely', 1]);
          relay.admission.isOverQuota = false;
          await startWaiting(topology, transport, newToken(), lastRelay);
        });
      }

      test('gets "shutting down" when the relay stops, unless its partner waits there', async (context) => {
        const topology = await open(context, () => ({}));
        const token = newToken();
        const first = await startWaiting(topology, transport, token);
        for (const { admission } of topology.relays) admission.isDraining = true;
        await expectRejected(await topology.connect(transport, lastRelay), 'shutting down');
        await expectRejected(await topology.connect(transport, lastRelay), 'shutting down', token, SIDE_A);
        if (isPartnerRemote) {
          await expectRejected(await topology.connect(transport, lastRelay), 'shutting down', token);
          for (const { admission } of topology.relays.slice(1)) admission.isDraining = false;
        }
        const partner = await topology.connect(transport, lastRelay);
        await partner.send(handshake(token, SIDE_B));
        await expectPaired(partner);
        await expectPaired(first);
        await until(() => rejectedIn(topology, 'shutdown') === (isPartnerRemote ? 3 : 2));
        assert.deepEqual(topology.summaries, []);
      });

      test('has no record if it is rejected, whether it sends an invalid line or disconnects', async (context) => {
        const topology = await open(context, () => ({ limits: { maxConnections: 1 } }));
        await startWaiting(topology, 'tcp', newToken(), lastRelay);
        for (const input of ['please relay nonsense\n', `${'x'.repeat(2000)}\n`]) {
          const client = await topology.connect(transport, lastRelay);
          await client.send(input);
          await client.closed;
        }
        const silent = await topology.connect(transport, lastRelay);
        await silent.send('please');
        await silent.leave();
        await until(() => rejectedIn(topology, 'connections') === 3);
        assert.deepEqual(topology.summaries, []);
      });

      test('is paired, and its pair ends with a record when the quota is exceeded', async (context) => {
        const topology = await open(context, () => ({ limits: { maxPairBytes: 100_000 } }));
        const token = newToken();
        const a = await startWaiting(topology, transport, token);
        const b = await topology.connect('tcp', lastRelay);
        await b.send(handshake(token, SIDE_B));
        await expectPaired(a);
        await expectPaired(b);
        await a.send(new Uint8Array(60_000));
        await b.until(60_003);
        assert.equal(topology.summaries.length, 0);
        await b.send(new Uint8Array(50_000));
        // Bytes over the quota that were read before the check are delivered.
        assert.deepEqual(await a.closed, { reset: false, code: transport === 'websocket' ? 1000 : null });
        assert.deepEqual(await b.closed, { reset: false, code: null });
        const [summary] = await topology.waitForRecords(1);
        assert.equal(summary?.mood, 'happy');
        const relayedBytes = summary?.totalBytes ?? 0;
        assert.ok(relayedBytes > 100_000 && relayedBytes <= 110_000, String(relayedBytes));
        assert.equal(a.receivedBytes, 3 + relayedBytes - 60_000);
        await topology.untilEmpty();
      });
    });
  }
}
