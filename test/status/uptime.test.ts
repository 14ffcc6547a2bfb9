import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OpenRelay } from './open-relay.ts';

const DAY_MS = 86_400_000;

/** Longest possible uptime: the test takes less time. */
const MAX_UPTIME_SECONDS = 60;

for (const days of [1, -1]) {
  test(`a wall clock jump of ${days} day changes neither uptime nor start time`, async (context) => {
    await using relay = await OpenRelay.start();
    const { started } = await relay.status();
    const wallClock = Date.now;
    context.mock.method(Date, 'now', () => wallClock() + days * DAY_MS);
    const after = await relay.status();
    assert.equal(after.started, started);
    assert.ok(
      after.uptime_seconds >= 0 && after.uptime_seconds < MAX_UPTIME_SECONDS,
      String(after.uptime_seconds),
    );
    // The uptime keeps growing.
    await relay.statusWhere((status) => status.uptime_seconds > after.uptime_seconds);
  });
}
