import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { SIDE_A, SIDE_B, SIDE_C, handshake, newToken } from '../../support/bytes.ts';
import { TestRelay } from '../../support/test-relay.ts';
import { until } from '../../support/scratch.ts';
import type { TestClient } from '../../support/test-client.ts';

const NO_CLIENTS = { connected: 0, waiting: 0, incompleteBytes: 0, relayedBytes: 0 };

const TRANSPORTS = ['tcp', 'unix', 'websocket'] as const;

async function open(context: TestContext): Promise<TestRelay> {
  const relay = await TestRelay.open();
  context.after(() => relay.close());
  return relay;
}

/** A token of the relay's own probes, and how many clients have named it. */
function probeToken(relay: TestRelay): { token: string; arrived: () => number } {
  const token = newToken();
  let count = 0;
  relay.sessions.registerProbe(token, () => {
    count += 1;
  });
  return { token, arrived: () => count };
}

async function pair(relay: TestRelay, token: string): Promise<[TestClient, TestClient]> {
  const [a, b] = [await relay.connect('tcp'), await relay.connect('tcp')];
  await a.send(handshake(token, SIDE_A));
  await b.send(handshake(token, SIDE_B));
  assert.equal(String(await a.until(3)) + String(await b.until(3)), 'ok\nok\n');
  return [a, b];
}

describe('a probe of the relay', () => {
  for (const transport of TRANSPORTS) {
    test(`that waits over ${transport} is not counted, however it closes`, async (context) => {
      const relay = await open(context);
      for (const ending of ['end', 'reset', 'destroy'] as const) {
        const { token, arrived } = probeToken(relay);
        const client = await relay.connect(transport);
        await client.send(handshake(token, SIDE_A));
        await until(() => arrived() === 1);
        assert.deepEqual(relay.sessions.liveCounts(), NO_CLIENTS);
        relay.sessions.checkConsistency();
        client[ending]();
        await until(() => relay.admission.connections === 0);
      }
      assert.deepEqual(relay.summaries, []);
    });
  }

  test('that is paired is not counted as a pair, nor are its bytes, during the pair and after it', async (context) => {
    const relay = await open(context);
    const { token, arrived } = probeToken(relay);
    const [a, b] = await pair(relay, token);
    assert.equal(arrived(), 2);
    await a.send(Buffer.alloc(100_000));
    await b.until(100_003);
    assert.deepEqual(relay.sessions.liveCounts(), NO_CLIENTS);
    assert.equal(relay.sessions.pairs, 0);
    relay.sessions.checkConsistency();
    // During a transfer, with a reset.
    a.reset();
    await b.closed;
    await until(() => relay.admission.connections === 0);
    assert.deepEqual(relay.sessions.liveCounts(), NO_CLIENTS);
    assert.deepEqual(relay.summaries, []);
  });

  test('that is impatient or redundant is not counted', async (context) => {
    const relay = await open(context);
    const { token } = probeToken(relay);
    const impatient = await relay.connect('tcp');
    await impatient.send(`${handshake(token, SIDE_A)}early`);
    assert.equal(String(await impatient.until(10)), 'impatient\n');
    const redundant = [await relay.connect('tcp'), await relay.connect('tcp'), await relay.connect('tcp')];
    for (const client of redundant.slice(0, 2)) await client.send(handshake(token, SIDE_A));
    await redundant[2]?.send(handshake(token, SIDE_C));
    await redundant[2]?.until(3);
    await Promise.race(redundant.map(({ closed }) => closed));
    relay.sessions.close();
    assert.deepEqual(relay.summaries, []);
    for (const [kind, count] of Object.entries(relay.admission.handshakeFailures))
      assert.equal(count, 0, kind);
  });

  test('that is open when the relay drains or stops is not counted', async (context) => {
    const relay = await open(context);
    const waiting = probeToken(relay);
    const client = await relay.connect('websocket');
    await client.send(handshake(waiting.token, SIDE_A));
    await until(() => waiting.arrived() === 1);
    const [a] = await pair(relay, probeToken(relay).token);
    await a.send('bytes');
    await relay.sessions.drain(10_000, new AbortController().signal);
    await client.closed;
    relay.sessions.close();
    assert.deepEqual(relay.summaries, []);
  });

  test('is recognized only by its token: once this is unregistered, the next connection with it is a client', async (context) => {
    const relay = await open(context);
    const { token, arrived } = probeToken(relay);
    const probe = await relay.connect('tcp');
    await probe.send(handshake(token, SIDE_A));
    await until(() => arrived() === 1);
    relay.sessions.unregisterProbe(token);
    // Their sides match, but their statistics are separate, and so is their rendezvous.
    const client = await relay.connect('tcp');
    await client.send(handshake(token, SIDE_B));
    await until(() => relay.sessions.liveCounts().waiting === 1);
    relay.sessions.checkConsistency();
    assert.equal(probe.receivedBytes + client.receivedBytes, 0);
    // A client that has named the token before stays a probe.
    probe.end();
    await until(() => relay.admission.connections === 1);
    client.end();
    const [summary] = await relay.waitForRecords(1);
    assert.equal(summary?.mood, 'lonely');
    await until(() => relay.admission.connections === 0);
    assert.equal(relay.summaries.length, 1);
    assert.equal(arrived(), 1);
  });
});

describe('the statistics of clients', () => {
  test('have the bytes of open and ended pairs', async (context) => {
    const relay = await open(context);
    const [a, b] = await pair(relay, newToken());
    const [c, d] = await pair(relay, newToken());
    await a.send(Buffer.alloc(1000));
    await b.until(1003);
    await d.send(Buffer.alloc(70));
    await c.until(73);
    assert.deepEqual(relay.sessions.liveCounts(), {
      connected: 4,
      waiting: 0,
      incompleteBytes: 1070,
      relayedBytes: 1070,
    });
    a.end();
    await b.closed;
    await relay.waitForRecords(1);
    assert.deepEqual(relay.sessions.liveCounts(), {
      connected: 2,
      waiting: 0,
      incompleteBytes: 70,
      relayedBytes: 1070,
    });
    await c.send('x');
    await d.until(4);
    relay.sessions.close();
    assert.deepEqual(relay.sessions.liveCounts(), { ...NO_CLIENTS, relayedBytes: 1071 });
  });

  test('do not include simultaneous probes', async (context) => {
    const relay = await open(context);
    const [a, b] = await pair(relay, newToken());
    const [c, d] = await pair(relay, probeToken(relay).token);
    for (const [from, to] of [
      [a, b],
      [c, d],
    ] as const) {
      await from.send(Buffer.alloc(5000));
      await to.until(5003);
    }
    c.end();
    await d.closed;
    a.end();
    await b.closed;
    const [summary] = await relay.waitForRecords(1);
    assert.equal(summary?.totalBytes, 5000);
    assert.deepEqual(relay.sessions.liveCounts(), { ...NO_CLIENTS, relayedBytes: 5000 });
    await until(() => relay.admission.connections === 0);
    assert.equal(relay.summaries.length, 1);
  });
});
