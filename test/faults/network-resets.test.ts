import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HeldRelay } from './support/held-relay.ts';
import { ordeal } from './support/ordeal.ts';
import { RESET_POINTS, SLOW_POINT } from './support/reset-points.ts';

function recordsOf(mood: string): number {
  return RESET_POINTS.filter((point) => point.mood === mood).reduce((sum, { records }) => sum + records, 0);
}

// The second test mostly waits, for a relay of its own.
describe('a reset', { concurrency: true, timeout: 120_000 }, () => {
  test('ends one connection, and its pair cleanly, at every point of the session', async (context) => {
    const held = await HeldRelay.startFor(context);
    const transfers = await ordeal(context, held, `resets at ${RESET_POINTS.length} points`, async () => {
      for (const { name, reset } of RESET_POINTS) {
        try {
          await reset(held);
        } catch (cause) {
          throw new Error(`a reset ${name}`, { cause });
        }
      }
    });
    const { empty = 0, ...others } = await held.moods();
    assert.deepEqual(others, {
      lonely: recordsOf('lonely'),
      errory: recordsOf('errory'),
      happy: recordsOf('happy') + transfers,
    });
    const surely = recordsOf('empty');
    assert.ok(empty >= surely && empty <= surely + recordsOf('maybe empty'), `${empty} empty records`);
  });

  test('is detected behind a receiver that never reads', async (context) => {
    const held = await HeldRelay.startFor(context);
    const holdings = await held.whenAlone();
    await SLOW_POINT.reset(held);
    await held.letsGo(holdings);
    assert.deepEqual(await held.moods(), { happy: SLOW_POINT.records });
  });
});
