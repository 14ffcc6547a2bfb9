import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Attack } from './support/attack.ts';
import { ADDRESSES } from './support/client-flood.ts';
import { BYSTANDERS, MonitoredRelay } from './support/monitored-relay.ts';
import { checkRecovery } from './support/recovery.ts';

const CLIENTS = 3000;

/** Number that a limit admits; connections include those of the bystander. */
const LIMIT = 400;

describe('a flood of clients against a limit', () => {
  test('of connections: rejected clients get a reply', async (context) => {
    const monitored = await MonitoredRelay.startFor(context, { RELAY_MAX_CONNECTIONS: String(LIMIT) });
    let rejected = 0;
    const fault = `${CLIENTS} clients, limit of ${LIMIT}`;
    const transfers = await checkRecovery(context, monitored, fault, async () => {
      await using attack = new Attack('unfinished', monitored, CLIENTS);
      assert.deepEqual(await attack.ready(), { connected: CLIENTS, failed: 0 });
      // All have been accepted, rejected, or evicted for a client from another address. None may be admitted later.
      const counts = ['open', 'rejected_total', 'evicted_total'].map((name) => `connections_${name}`);
      await monitored.untilSum(counts, CLIENTS + BYSTANDERS);
      assert.equal((await monitored.status()).connections, LIMIT);
      await monitored.endTimeouts();
      const {
        'busy, FIN': busy = 0,
        'busy, reset': busyReset = 0,
        reset = 0,
        FIN = 0,
        ...others
      } = await attack.ended();
      assert.deepEqual(others, {});
      rejected = (await monitored.status()).refused.connections;
      // Clients in reject slots get no reply if they have sent nothing.
      assert.ok(busy + busyReset + reset <= rejected && FIN >= LIMIT - BYSTANDERS);
      assert.equal(busy + busyReset + reset + FIN, CLIENTS);
    });
    await monitored.relayPair();
    assert.ok(rejected >= CLIENTS - LIMIT - BYSTANDERS, `${rejected} of ${CLIENTS}`);
    assert.deepEqual(await monitored.moods(), { empty: CLIENTS - rejected, happy: transfers });
  });

  for (const { name, attackers, busy } of [
    { name: 'raw', attackers: 'waiting', busy: 'busy, FIN' },
    { name: 'WebSocket', attackers: 'waiting-by-websocket', busy: 'close 1013, FIN' },
  ]) {
    test(`of waiting ${name} clients: further ones get a reply`, async (context) => {
      const monitored = await MonitoredRelay.startFor(context, { RELAY_MAX_WAITING: String(LIMIT) });
      const fault = `${CLIENTS} ${name} clients, limit of ${LIMIT} waiting`;
      const transfers = await checkRecovery(context, monitored, fault, async () => {
        await using attack = new Attack(attackers, monitored, CLIENTS);
        assert.deepEqual(await attack.ready(), { connected: CLIENTS, failed: 0 });
        await monitored.untilStatus((status) => status.refused.waiting === CLIENTS - LIMIT);
        assert.equal((await monitored.status()).waiting, LIMIT);
        assert.deepEqual(await attack.leave(), { left: LIMIT, [busy]: CLIENTS - LIMIT });
      });
      await monitored.relayPair();
      assert.deepEqual(await monitored.moods(), { lonely: LIMIT, happy: transfers });
    });
  }

  test('of new connections from one address: other addresses are unaffected', async (context) => {
    const settings = { RELAY_NEW_CONNECTIONS_PER_ADDRESS: `${LIMIT / ADDRESSES}/h` };
    const monitored = await MonitoredRelay.startFor(context, settings);
    const fault = `${CLIENTS} clients from ${ADDRESSES} addresses`;
    const transfers = await checkRecovery(context, monitored, fault, async () => {
      await using attack = new Attack('waiting', monitored, CLIENTS);
      assert.deepEqual(await attack.ready(), { connected: CLIENTS, failed: 0 });
      await monitored.untilStatus((status) => status.refused.address === CLIENTS - LIMIT);
      assert.equal((await monitored.status()).waiting, LIMIT);
      const { 'busy, FIN': busy = 0, 'busy, reset': busyReset = 0, ...others } = await attack.leave();
      assert.deepEqual(others, { left: LIMIT });
      assert.equal(busy + busyReset, CLIENTS - LIMIT);
    });
    await monitored.relayPair();
    assert.deepEqual(await monitored.moods(), { lonely: LIMIT, happy: transfers });
  });
});
