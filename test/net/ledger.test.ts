import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { SIDE_A, SIDE_B, SIDE_C, handshake, newToken } from '../support/bytes.ts';
import { House } from '../support/house.ts';
import { until } from '../support/scratch.ts';
import type { TestClient } from '../support/test-client.ts';

const NOBODY = { connected: 0, waiting: 0, incompleteBytes: 0, relayedBytes: 0 };

const TRANSPORTS = ['tcp', 'unix', 'websocket'] as const;

async function open(context: TestContext): Promise<House> {
  const house = await House.open();
  context.after(() => house.close());
  return house;
}

/** A token of the relay's own, and how many have come with it. */
function testerToken(house: House): { token: string; arrived: () => number } {
  const token = newToken();
  let count = 0;
  house.hub.expectTester(token, () => {
    count += 1;
  });
  return { token, arrived: () => count };
}

async function pair(house: House, token: string): Promise<[TestClient, TestClient]> {
  const [a, b] = [await house.connect('tcp'), await house.connect('tcp')];
  await a.send(handshake(token, SIDE_A));
  await b.send(handshake(token, SIDE_B));
  assert.equal(String(await a.until(3)) + String(await b.until(3)), 'ok\nok\n');
  return [a, b];
}

describe('a test client of the relay', () => {
  for (const transport of TRANSPORTS) {
    test(`that waits by ${transport}, and goes in whatever way, leaves no trace`, async (context) => {
      const house = await open(context);
      for (const go of ['end', 'reset', 'destroy'] as const) {
        const { token, arrived } = testerToken(house);
        const client = await house.connect(transport);
        await client.send(handshake(token, SIDE_A));
        await until(() => arrived() === 1);
        assert.deepEqual(house.hub.census(), NOBODY);
        house.hub.checkConsistency();
        client[go]();
        await until(() => house.reception.connections === 0);
      }
      assert.deepEqual(house.endings, []);
    });
  }

  test('that is paired counts neither as a pair nor with its bytes, while it runs and after', async (context) => {
    const house = await open(context);
    const { token, arrived } = testerToken(house);
    const [a, b] = await pair(house, token);
    assert.equal(arrived(), 2);
    await a.send(Buffer.alloc(100_000));
    await b.until(100_003);
    assert.deepEqual(house.hub.census(), NOBODY);
    assert.equal(house.hub.pairs, 0);
    house.hub.checkConsistency();
    // In mid-transfer, with a reset.
    a.reset();
    await b.closed;
    await until(() => house.reception.connections === 0);
    assert.deepEqual(house.hub.census(), NOBODY);
    assert.deepEqual(house.endings, []);
  });

  test('that says too much, or is one too many, leaves no trace either', async (context) => {
    const house = await open(context);
    const { token } = testerToken(house);
    const impatient = await house.connect('tcp');
    await impatient.send(`${handshake(token, SIDE_A)}early`);
    assert.equal(String(await impatient.until(10)), 'impatient\n');
    const redundant = [await house.connect('tcp'), await house.connect('tcp'), await house.connect('tcp')];
    for (const client of redundant.slice(0, 2)) await client.send(handshake(token, SIDE_A));
    await redundant[2]?.send(handshake(token, SIDE_C));
    await redundant[2]?.until(3);
    await Promise.race(redundant.map(({ closed }) => closed));
    house.hub.close();
    assert.deepEqual(house.endings, []);
    for (const [kind, count] of Object.entries(house.reception.failures)) assert.equal(count, 0, kind);
  });

  test('that is there when the relay stops, in the kind way or the other, leaves no trace', async (context) => {
    const house = await open(context);
    const waiting = testerToken(house);
    const client = await house.connect('websocket');
    await client.send(handshake(waiting.token, SIDE_A));
    await until(() => waiting.arrived() === 1);
    const [a] = await pair(house, testerToken(house).token);
    await a.send('bytes');
    await house.hub.drain(10_000, new AbortController().signal);
    await client.closed;
    house.hub.close();
    assert.deepEqual(house.endings, []);
  });

  test('is one by its token alone: the next one with it is a client once it is forgotten', async (context) => {
    const house = await open(context);
    const { token, arrived } = testerToken(house);
    const tester = await house.connect('tcp');
    await tester.send(handshake(token, SIDE_A));
    await until(() => arrived() === 1);
    house.hub.forgetTester(token);
    // They would match, but they are not in the same books.
    const client = await house.connect('tcp');
    await client.send(handshake(token, SIDE_B));
    await until(() => house.hub.census().waiting === 1);
    house.hub.checkConsistency();
    assert.equal(tester.receivedBytes + client.receivedBytes, 0);
    // Who has named the token before stays a tester.
    tester.end();
    await until(() => house.reception.connections === 1);
    client.end();
    const [ending] = await house.recorded(1);
    assert.equal(ending?.mood, 'lonely');
    await until(() => house.reception.connections === 0);
    assert.equal(house.endings.length, 1);
    assert.equal(arrived(), 1);
  });
});

describe('the books on clients', () => {
  test('know the bytes of pairs that run and of those that have ended', async (context) => {
    const house = await open(context);
    const [a, b] = await pair(house, newToken());
    const [c, d] = await pair(house, newToken());
    await a.send(Buffer.alloc(1000));
    await b.until(1003);
    await d.send(Buffer.alloc(70));
    await c.until(73);
    assert.deepEqual(house.hub.census(), {
      connected: 4,
      waiting: 0,
      incompleteBytes: 1070,
      relayedBytes: 1070,
    });
    a.end();
    await b.closed;
    await house.recorded(1);
    assert.deepEqual(house.hub.census(), {
      connected: 2,
      waiting: 0,
      incompleteBytes: 70,
      relayedBytes: 1070,
    });
    await c.send('x');
    await d.until(4);
    house.hub.close();
    assert.deepEqual(house.hub.census(), { ...NOBODY, relayedBytes: 1071 });
  });

  test('are not touched by a test beside them', async (context) => {
    const house = await open(context);
    const [a, b] = await pair(house, newToken());
    const [c, d] = await pair(house, testerToken(house).token);
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
    const [ending] = await house.recorded(1);
    assert.equal(ending?.totalBytes, 5000);
    assert.deepEqual(house.hub.census(), { ...NOBODY, relayedBytes: 5000 });
    await until(() => house.reception.connections === 0);
    assert.equal(house.endings.length, 1);
  });
});
