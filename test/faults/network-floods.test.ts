import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Attack } from './support/attack.ts';
import { MonitoredRelay } from './support/monitored-relay.ts';
import { checkRecovery } from './support/recovery.ts';

const CLIENTS = 15_000;

describe('15,000 raw connections', () => {
  test('that never complete a handshake are closed by the timeout', async (context) => {
    const monitored = await MonitoredRelay.startFor(context);
    const transfers = await checkRecovery(context, monitored, '15,000 unfinished lines', async () => {
      await using attack = new Attack('unfinished', monitored, CLIENTS);
      assert.deepEqual(await attack.ready(), { connected: CLIENTS, failed: 0 });
      await monitored.untilConnected(CLIENTS);
      await monitored.endTimeouts();
      assert.deepEqual(await attack.ended(), { FIN: CLIENTS });
    });
    assert.deepEqual(await monitored.moods(), { empty: CLIENTS, happy: transfers });
  });

  test('that send garbage get a reply and are closed', async (context) => {
    const monitored = await MonitoredRelay.startFor(context);
    const transfers = await checkRecovery(context, monitored, '15,000 lines of garbage', async () => {
      await using attack = new Attack('garbage', monitored, CLIENTS);
      assert.deepEqual(await attack.ready(), { connected: CLIENTS, failed: 0 });
      assert.deepEqual(await attack.ended(), { 'bad handshake, FIN': CLIENTS });
    });
    assert.deepEqual(await monitored.moods(), { errory: CLIENTS, happy: transfers });
  });

  test('with an endless line that stay after the reply are aborted', async (context) => {
    const monitored = await MonitoredRelay.startFor(context, { HOLD_LONG_TIMERS: 'true' });
    const transfers = await checkRecovery(context, monitored, '15,000 endless lines', async () => {
      await using attack = new Attack('endless', monitored, CLIENTS);
      assert.deepEqual(await attack.ready(), { connected: CLIENTS, failed: 0 });
      await monitored.untilSum(['handshake_failures_total'], CLIENTS);
      // The relay waits for their end.
      await monitored.untilConnected(CLIENTS);
      await monitored.endTimeouts();
      assert.deepEqual(await attack.ended(), { FIN: CLIENTS });
    });
    assert.deepEqual(await monitored.moods(), { empty: CLIENTS, happy: transfers });
  });
});
