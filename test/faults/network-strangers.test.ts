import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Attack } from './support/attack.ts';
import { HeldRelay } from './support/held-relay.ts';
import { ordeal } from './support/ordeal.ts';

const STRANGERS = 15_000;

describe('15,000 raw connections', { timeout: 120_000 }, () => {
  test('that never complete a handshake are closed by the timeout', async (context) => {
    const held = await HeldRelay.startFor(context);
    const transfers = await ordeal(context, held, '15,000 unfinished lines', async () => {
      await using attack = new Attack('unfinished', held, STRANGERS);
      assert.deepEqual(await attack.ready(), { connected: STRANGERS, failed: 0 });
      await held.opens(STRANGERS);
      assert.deepEqual(await attack.ended(), { FIN: STRANGERS });
    });
    assert.deepEqual(await held.moods(), { empty: STRANGERS, happy: transfers });
  });

  test('that send garbage get a reply and are closed', async (context) => {
    const held = await HeldRelay.startFor(context);
    const transfers = await ordeal(context, held, '15,000 lines of garbage', async () => {
      await using attack = new Attack('garbage', held, STRANGERS);
      assert.deepEqual(await attack.ready(), { connected: STRANGERS, failed: 0 });
      assert.deepEqual(await attack.ended(), { 'bad handshake, FIN': STRANGERS });
    });
    assert.deepEqual(await held.moods(), { errory: STRANGERS, happy: transfers });
  });

  test('with an endless line that stay after the reply are aborted', async (context) => {
    const held = await HeldRelay.startFor(context);
    const transfers = await ordeal(context, held, '15,000 endless lines', async () => {
      await using attack = new Attack('endless', held, STRANGERS);
      assert.deepEqual(await attack.ready(), { connected: STRANGERS, failed: 0 });
      await held.opens(STRANGERS);
      assert.deepEqual(await attack.ended(), { FIN: STRANGERS });
    });
    assert.deepEqual(await held.moods(), { empty: STRANGERS, happy: transfers });
  });
});
