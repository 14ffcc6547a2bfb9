import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MonitoredRelay } from './support/monitored-relay.ts';
import { checkRecovery } from './support/recovery.ts';
import { RESET_POINTS, SLOW_POINT } from './support/reset-points.ts';

function recordsOf(mood: string): number {
  return RESET_POINTS.filter((point) => point.mood === mood).reduce((sum, { records }) => sum + records, 0);
}

// The second test mostly waits, for a relay of its own.
describe('a reset', { concurrency: true }, () => {
  test('ends one connection, and its pair cleanly, at every point of the session', async (context) => {
    const monitored = await MonitoredRelay.startFor(context);
    const transfers = await checkRecovery(
      context,
      monitored,
      `resets at ${RESET_POINTS.length} points`,
      async () => {
        for (const { name, reset } of RESET_POINTS) {
          try {
            await reset(monitored);
          } catch (cause) {
            throw new Error(`a reset ${name}`, { cause });
          }
        }
      },
    );
    const { empty = 0, ...others } = await monitored.moods();
    assert.deepEqual(others, {
      lonely: recordsOf('lonely'),
      errory: recordsOf('errory'),
      happy: recordsOf('happy') + transfers,
    });
    const certain = recordsOf('empty');
    assert.ok(empty >= certain && empty <= certain + recordsOf('maybe empty'), `${empty} empty records`);
  });

  test('is detected behind a receiver that never reads', async (context) => {
    const monitored = await MonitoredRelay.startFor(context);
    const resourceUsage = await monitored.usageWhenIdle();
    await SLOW_POINT.reset(monitored);
    await monitored.untilReleased(resourceUsage);
    assert.deepEqual(await monitored.moods(), { happy: SLOW_POINT.records });
  });
});
