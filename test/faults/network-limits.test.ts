import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Attack } from './support/attack.ts';
import { ADDRESSES } from './support/crowd.ts';
import { HeldRelay } from './support/held-relay.ts';
import { ordeal } from './support/ordeal.ts';

const STRANGERS = 3000;

/** Number that a limit admits; connections include those of the bystander. */
const LIMIT = 400;

const BYSTANDERS = 4;

describe('a flood of clients against a limit', { timeout: 120_000 }, () => {
  test('of connections: rejected clients get a reply', async (context) => {
    const held = await HeldRelay.startFor(context, { RELAY_MAX_CONNECTIONS: String(LIMIT) });
    let rejected = 0;
    const fault = `${STRANGERS} clients, limit of ${LIMIT}`;
    const transfers = await ordeal(context, held, fault, async () => {
      await using attack = new Attack('unfinished', held, STRANGERS);
      assert.deepEqual(await attack.ready(), { connected: STRANGERS, failed: 0 });
      await held.sees(({ connections }) => connections === LIMIT);
      const {
        'busy, FIN': notifications = 0,
        'busy, reset': thrown = 0,
        reset = 0,
        FIN = 0,
        ...others
      } = await attack.ended();
      assert.deepEqual(others, {});
      rejected = (await held.status()).refused.connections;
      // Clients in reject slots get no reply if they have sent nothing.
      assert.ok(notifications + thrown + reset <= rejected && FIN >= LIMIT - BYSTANDERS);
      assert.equal(notifications + thrown + reset + FIN, STRANGERS);
    });
    await held.servesPair();
    assert.ok(rejected >= STRANGERS - LIMIT - BYSTANDERS, `${rejected} of ${STRANGERS}`);
    assert.deepEqual(await held.moods(), { empty: STRANGERS - rejected, happy: transfers });
  });

  for (const { name, attackers, busy } of [
    { name: 'raw', attackers: 'waiting', busy: 'busy, FIN' },
    { name: 'WebSocket', attackers: 'waiting-by-websocket', busy: 'close 1013, FIN' },
  ]) {
    test(`of waiting ${name} clients: further ones get a reply`, async (context) => {
      const held = await HeldRelay.startFor(context, { RELAY_MAX_WAITING: String(LIMIT) });
      const fault = `${STRANGERS} ${name} clients, limit of ${LIMIT} waiting`;
      const transfers = await ordeal(context, held, fault, async () => {
        await using attack = new Attack(attackers, held, STRANGERS);
        assert.deepEqual(await attack.ready(), { connected: STRANGERS, failed: 0 });
        await held.sees((status) => status.refused.waiting === STRANGERS - LIMIT);
        assert.equal((await held.status()).waiting, LIMIT);
        assert.deepEqual(await attack.leave(), { left: LIMIT, [busy]: STRANGERS - LIMIT });
      });
      await held.servesPair();
      assert.deepEqual(await held.moods(), { lonely: LIMIT, happy: transfers });
    });
  }

  test('of new connections from one address: other addresses are unaffected', async (context) => {
    const settings = { RELAY_NEW_CONNECTIONS_PER_ADDRESS: `${LIMIT / ADDRESSES}/h` };
    const held = await HeldRelay.startFor(context, settings);
    const fault = `${STRANGERS} clients from ${ADDRESSES} addresses`;
    const transfers = await ordeal(context, held, fault, async () => {
      await using attack = new Attack('waiting', held, STRANGERS);
      assert.deepEqual(await attack.ready(), { connected: STRANGERS, failed: 0 });
      await held.sees((status) => status.refused.address === STRANGERS - LIMIT);
      assert.equal((await held.status()).waiting, LIMIT);
      const { 'busy, FIN': notifications = 0, 'busy, reset': thrown = 0, ...others } = await attack.leave();
      assert.deepEqual(others, { left: LIMIT });
      assert.equal(notifications + thrown, STRANGERS - LIMIT);
    });
    await held.servesPair();
    assert.deepEqual(await held.moods(), { lonely: LIMIT, happy: transfers });
  });
});
