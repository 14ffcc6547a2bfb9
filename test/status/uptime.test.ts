import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OpenRelay } from './open-relay.ts';

const DAY_MS = 86_400_000;

/** A test that takes longer has a fault of its own. */
const LONGEST_SECONDS = 60;

for (const days of [1, -1]) {
  test(`a wall clock that jumps by ${days} day changes neither for how long nor since when the relay runs`, async (context) => {
    await using relay = await OpenRelay.start();
    const { started } = await relay.status();
    const wallClock = Date.now;
    context.mock.method(Date, 'now', () => wallClock() + days * DAY_MS);
    const after = await relay.status();
    assert.equal(after.started, started);
    assert.ok(
      after.uptime_seconds >= 0 && after.uptime_seconds < LONGEST_SECONDS,
      String(after.uptime_seconds),
    );
    // It goes on.
    await relay.statusWhere((status) => status.uptime_seconds > after.uptime_seconds);
  });
}
