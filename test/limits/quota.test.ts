import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Quota } from '../../src/limits/quota.ts';
import type { QuotaOptions, SavedQuota } from '../../src/limits/quota.ts';

const DAY_MS = 86_400_000;

const MONTHLY: QuotaOptions = { limitBytes: 1000, period: 'month', resetDay: 1, counts: 'relayed' };
const DAILY: QuotaOptions = { ...MONTHLY, period: 'day' };

/** A quota with a clock that a test sets, and what it has told. */
class House {
  now: number;
  readonly told: string[] = [];
  readonly quota: Quota;
  #relayed = 0;

  constructor(time: string, options: Partial<QuotaOptions> = {}, saved: SavedQuota | null = null) {
    this.now = Date.parse(time);
    this.quota = new Quota({ ...MONTHLY, ...options }, () => this.now, saved, {
      onWarning: (percent) => this.told.push(`${percent} %`),
      onExhausted: () => this.told.push('spent'),
      onReset: () => this.told.push('reset'),
    });
  }

  /** Relays so much more, and looks. */
  relay(bytes: number, time?: string): void {
    if (time !== undefined) this.now = Date.parse(time);
    this.#relayed += bytes;
    this.quota.check(this.#relayed);
  }

  /** Lets time pass, with a look each minute. */
  run(ms: number): void {
    for (let left = ms; left > 0; left -= 60_000) {
      this.now += 60_000;
      this.relay(0);
    }
  }

  /** Restarts the relay. */
  restart(time: string, options: Partial<QuotaOptions> = {}): House {
    return new House(time, options, this.quota.toSavedQuota());
  }

  get resets(): string {
    return new Date(this.quota.resetsAtMs).toISOString().slice(0, 10);
  }
}

describe('a quota', () => {
  test('warns at 80 % and 95 % and tells when it is spent, each once', () => {
    const house = new House('2026-01-10');
    const seen: [number, string[], boolean][] = [];
    for (const bytes of [799, 1, 100, 49, 1, 49, 1, 0, 500]) {
      house.relay(bytes);
      seen.push([house.quota.usedBytes, house.told.splice(0), house.quota.isExhausted]);
    }
    assert.deepEqual(seen, [
      [799, [], false],
      [800, ['80 %'], false],
      [900, [], false],
      [949, [], false],
      [950, ['95 %'], false],
      [999, [], false],
      [1000, ['spent'], true],
      [1000, [], true],
      [1500, [], true],
    ]);
  });

  test('tells the highest alone when it jumps over others', () => {
    const house = new House('2026-01-10');
    house.relay(960);
    house.relay(0);
    const spent = new House('2026-01-10');
    spent.relay(5000);
    spent.relay(1);
    assert.deepEqual([house.told, spent.told], [['95 %'], ['spent']]);
  });

  test('counts each byte twice where in and out are billed', () => {
    const house = new House('2026-01-10', { counts: 'in+out' });
    house.relay(400);
    assert.deepEqual([house.quota.usedBytes, house.told], [800, ['80 %']]);
    house.relay(100);
    assert.deepEqual([house.quota.isExhausted, house.told], [true, ['80 %', 'spent']]);
  });

  test('begins anew with each period, and counts on', () => {
    const house = new House('2026-01-10');
    house.relay(1000, '2026-01-31T23:59:59.999Z');
    assert.equal(house.resets, '2026-02-01');
    house.relay(10, '2026-02-01T00:00:00.000Z');
    assert.deepEqual(
      [house.quota.usedBytes, house.quota.isExhausted, house.resets],
      [10, false, '2026-03-01'],
    );
    house.relay(790);
    // Three months later: a machine that slept.
    house.relay(0, '2026-05-20');
    house.relay(900);
    assert.deepEqual(house.told, ['spent', 'reset', '80 %', 'reset', '80 %']);
  });

  test('begins anew each day where it is for a day', () => {
    const house = new House('2026-01-10T12:00:00Z', { period: 'day' });
    house.relay(900);
    house.relay(5, '2026-01-11T00:00:00Z');
    assert.deepEqual([house.quota.usedBytes, house.told, house.resets], [5, ['80 %', 'reset'], '2026-01-12']);
  });

  test('counts from its reset day, which is the last one in a month that is shorter', () => {
    const house = new House('2026-02-27T23:00:00Z', { resetDay: 31 });
    house.relay(500);
    assert.equal(house.resets, '2026-02-28');
    house.relay(1, '2026-02-28T00:00:00Z');
    assert.deepEqual([house.quota.usedBytes, house.resets], [1, '2026-03-31']);
  });
});

describe('a clock that jumps', () => {
  for (const options of [MONTHLY, DAILY]) {
    for (const back of ['2026-03-14', '2026-02-15', '2025-01-01', '1970-01-01']) {
      test(`back to ${back} neither resets nor loses what is counted for the ${options.period}`, () => {
        const house = new House('2026-03-15T12:00:00Z', options);
        house.relay(500);
        const { resets } = house;
        house.relay(100, back);
        assert.deepEqual([house.quota.usedBytes, house.resets], [600, resets]);
        house.run(DAY_MS);
        house.relay(100);
        // A restart meanwhile, and when it is set again.
        const restarted = house.restart(back, options);
        restarted.relay(50);
        assert.deepEqual([restarted.quota.usedBytes, restarted.resets], [750, resets]);
        restarted.relay(10, '2026-03-15T12:00:01Z');
        assert.deepEqual([restarted.quota.usedBytes, restarted.told], [760, []]);
        house.relay(10, '2026-03-15T12:00:01Z');
        assert.deepEqual([house.quota.usedBytes, house.told], [710, []]);
      });
    }
  }

  test('forward past the reset begins a new period, which stays when it jumps back', () => {
    const house = new House('2026-03-15');
    house.relay(500);
    house.relay(100, '2026-04-02');
    assert.deepEqual([house.quota.usedBytes, house.told], [100, ['reset']]);
    house.relay(100, '2026-03-15');
    house.relay(100, '2026-04-01');
    assert.deepEqual([house.quota.usedBytes, house.told, house.resets], [300, ['reset'], '2026-05-01']);
    house.relay(1, '2026-05-01');
    assert.deepEqual([house.quota.usedBytes, house.told], [1, ['reset', 'reset']]);
  });

  test('forward by years and back is believed when the relay has run by it for two days, and nothing is lost', () => {
    const house = new House('2026-03-15');
    house.relay(500, '2031-01-01');
    house.relay(100, '2026-03-15');
    house.run(2 * DAY_MS - 60_000);
    assert.equal(house.resets, '2031-02-01');
    house.run(60_000);
    assert.deepEqual([house.quota.usedBytes, house.resets, house.told], [600, '2026-04-01', ['reset']]);
    house.relay(1, '2026-04-01');
    assert.deepEqual([house.quota.usedBytes, house.told], [1, ['reset', 'reset']]);
  });

  test('back within the period leaves the last day that was counted', () => {
    const house = new House('2026-03-15');
    house.relay(500);
    house.relay(100, '2026-03-14');
    assert.deepEqual(house.quota.toSavedQuota(), { day: '2026-03-15', period: 'month', relayedBytes: 600 });
    // A new reset day in between would else forget them.
    assert.equal(house.restart('2026-03-15', { resetDay: 15 }).quota.usedBytes, 600);
  });

  test('back again and again is not believed for the sum of its jumps', () => {
    const house = new House('2026-03-15');
    house.relay(500);
    for (let jump = 0; jump < 100; jump += 1) {
      house.relay(0, '2026-01-01');
      house.relay(0, '2026-01-20');
    }
    assert.deepEqual([house.resets, house.quota.usedBytes], ['2026-04-01', 500]);
    // Nor for short times that lie apart.
    for (let time = 0; time < 3; time += 1) {
      house.relay(0, '2026-02-01');
      house.run(DAY_MS);
      house.relay(0, '2026-03-15');
    }
    assert.deepEqual([house.resets, house.quota.usedBytes, house.told], ['2026-04-01', 500, []]);
  });
});

describe('a restart', () => {
  const used = (relayedBytes: number, day = '2026-03-10', period: 'month' | 'day' = 'month'): SavedQuota => ({
    day,
    period,
    relayedBytes,
  });

  test('loses nothing, and warns once again', () => {
    const before = new House('2026-03-10T23:00:00Z');
    before.relay(850);
    assert.deepEqual(before.quota.toSavedQuota(), used(850));
    const after = before.restart('2026-03-11');
    assert.equal(after.quota.usedBytes, 850);
    after.relay(10);
    after.relay(10);
    assert.deepEqual([after.quota.usedBytes, after.told], [870, ['80 %']]);
  });

  test('knows from the first moment that nothing is left', () => {
    const after = new House('2026-03-11', {}, used(1000));
    assert.deepEqual([after.quota.isExhausted, after.told], [true, []]);
    after.relay(0);
    assert.deepEqual(after.told, ['spent']);
  });

  test('in a later period begins with nothing', () => {
    const after = new House('2026-04-01', {}, used(1000));
    after.relay(0);
    assert.deepEqual([after.quota.usedBytes, after.told], [0, []]);
  });

  test('with another limit, or other bytes that count, keeps what is used', () => {
    const raised = new House('2026-03-11', { limitBytes: 2000 }, used(1000));
    const billed = new House('2026-03-11', { counts: 'in+out' }, used(600));
    assert.deepEqual([raised.quota.isExhausted, raised.quota.usedBytes], [false, 1000]);
    assert.deepEqual([billed.quota.isExhausted, billed.quota.usedBytes], [true, 1200]);
    const saved = new House('2026-03-11', { counts: 'in+out' }, billed.quota.toSavedQuota());
    assert.equal(saved.quota.usedBytes, 1200);
  });

  const resetDays: readonly (readonly [string, number, string, number, string])[] = [
    ['keeps what is used when that day is still to come', 15, '2026-03-11', 700, '2026-03-15'],
    ['keeps what is used when that day is in the same period and over', 5, '2026-03-11', 700, '2026-04-05'],
    ['keeps what is used on that very day', 10, '2026-03-11', 700, '2026-04-10'],
    ['begins with nothing when it has come meanwhile', 11, '2026-03-11', 0, '2026-04-11'],
  ];
  for (const [what, resetDay, time, bytes, resets] of resetDays) {
    test(`with another reset day ${what}`, () => {
      const after = new House(time, { resetDay }, used(700));
      assert.deepEqual([after.quota.usedBytes, after.resets], [bytes, resets]);
    });
  }

  test('from days to months keeps the day, from months to days does not keep the month', () => {
    const month = new House('2026-03-10', {}, used(700, '2026-03-10', 'day'));
    const day = new House('2026-03-10', { period: 'day' }, used(700));
    assert.deepEqual([month.quota.usedBytes, day.quota.usedBytes], [700, 0]);
  });

  test('has nothing new to save while a day brings no bytes', () => {
    const house = new House('2026-03-10T01:00:00Z');
    house.relay(5);
    const saved = house.quota.toSavedQuota();
    house.relay(0, '2026-03-10T23:00:00Z');
    assert.deepEqual(house.quota.toSavedQuota(), saved);
    house.relay(0, '2026-03-11T00:00:00Z');
    assert.notDeepEqual(house.quota.toSavedQuota(), saved);
  });
});
