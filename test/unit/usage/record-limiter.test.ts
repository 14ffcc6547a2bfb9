import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MOODS } from '../../../src/protocol/messages.ts';
import type { Mood } from '../../../src/protocol/messages.ts';
import { RecordLimiter } from '../../../src/usage/record-limiter.ts';
import type { UsageRecord } from '../../../src/usage/record.ts';

/** Limits of one class for all its moods together: the burst, and the rate per second. */
const CLASSES: readonly { moods: readonly Mood[]; burst: number; perSecond: number }[] = [
  { moods: ['errory', 'empty'], burst: 1000, perSecond: 10 },
  { moods: ['lonely', 'redundant', 'impatient'], burst: 50_000, perSecond: 20 },
  { moods: ['happy'], burst: 100_000, perSecond: 20 },
];

function recordOf(mood: Mood, totalBytes = 0): UsageRecord {
  return { started: 0, total_time: 0, waiting_time: null, total_bytes: totalBytes, mood };
}

class LimiterFixture {
  now = 0;
  readonly written: UsageRecord[] = [];
  suppressedCalls = 0;
  readonly limiter = new RecordLimiter(
    () => this.now,
    () => (this.suppressedCalls += 1),
  );

  constructor() {
    this.limiter.addSink({ record: (record) => this.written.push(record) });
  }

  /** Offers `count` records with these moods in turn. Returns the number written. */
  offer(moods: readonly Mood[], count: number, totalBytes = 0): number {
    const before = this.written.length;
    for (let at = 0; at < count; at += 1)
      this.limiter.record(recordOf(moods[at % moods.length] ?? 'empty', totalBytes));
    return this.written.length - before;
  }

  get suppressed(): number {
    return MOODS.reduce((sum, mood) => sum + this.limiter.suppressed[mood], 0);
  }
}

describe('the rate limit of usage records', () => {
  for (const { moods, burst, perSecond } of CLASSES) {
    test(`allows ${burst} records of ${moods.join(', ')} at once, then ${perSecond} per second`, () => {
      const fixture = new LimiterFixture();
      assert.equal(fixture.offer(moods, burst + 500), burst);
      assert.equal(fixture.offer(moods, 500), 0);
      fixture.now += 3000;
      assert.equal(fixture.offer(moods, 500), 3 * perSecond);
      // An hour with more records per second than allowed.
      let written = 0;
      for (let second = 0; second < 3600; second += 1) {
        fixture.now += 1000;
        written += fixture.offer(moods, perSecond + 5);
      }
      assert.equal(written, 3600 * perSecond);
      assert.equal(fixture.suppressed, 500 + 500 + (500 - 3 * perSecond) + 3600 * 5);
      assert.equal(fixture.suppressedCalls, fixture.suppressed);
      // The burst is refilled over time, but not exceeded.
      fixture.now += 24 * 3600 * 1000;
      assert.equal(fixture.offer(moods, burst + 1), burst);
    });
  }

  test('limits each class separately', () => {
    const fixture = new LimiterFixture();
    fixture.offer(['errory'], 5000);
    fixture.offer(['lonely'], 60_000);
    assert.equal(fixture.offer(['happy'], 5000), 5000);
    assert.equal(fixture.offer(['empty'], 1), 0);
    assert.equal(fixture.offer(['impatient'], 1), 0);
  });

  test('never suppresses pairs of 1 MB or more', () => {
    const fixture = new LimiterFixture();
    assert.equal(fixture.offer(['happy'], 150_000, 999_999), 100_000);
    assert.equal(fixture.offer(['happy'], 50_000, 1_000_000), 50_000);
    assert.equal(fixture.limiter.suppressed.happy, 50_000);
  });

  test('passes the same record to every sink', () => {
    const fixture = new LimiterFixture();
    const others: UsageRecord[] = [];
    fixture.limiter.addSink({ record: (record) => others.push(record) });
    const record = recordOf('lonely');
    fixture.limiter.record(record);
    assert.equal(fixture.written[0], record);
    assert.equal(others[0], record);
  });
});
