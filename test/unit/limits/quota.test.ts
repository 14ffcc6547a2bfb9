import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { Quota, periodEnd, periodStart } from '../../../src/limits/quota.ts';
import type { QuotaOptions, SavedQuota } from '../../../src/limits/quota.ts';

const DAY_MS = 86_400_000;

const MONTHLY: QuotaOptions = { limitBytes: 1000, period: 'month', resetDay: 1, counts: 'relayed' };
const DAILY: QuotaOptions = { ...MONTHLY, period: 'day' };

/** A quota with its events and with a clock that only the test changes. */
class QuotaFixture {
  now: number;
  readonly events: string[] = [];
  readonly quota: Quota;
  #relayed = 0;

  constructor(time: string, options: Partial<QuotaOptions> = {}, saved: SavedQuota | null = null) {
    this.now = Date.parse(time);
    this.quota = new Quota({ ...MONTHLY, ...options }, () => this.now, saved, {
      onWarning: (percent) => this.events.push(`${percent} %`),
      onExhausted: () => this.events.push('exhausted'),
      onReset: () => this.events.push('reset'),
    });
  }

  /** Relays that many bytes, and checks. */
  relay(bytes: number, time?: string): void {
    if (time !== undefined) this.now = Date.parse(time);
    this.#relayed += bytes;
    this.quota.check(this.#relayed);
  }

  /** Advances the clock, with a check each minute. */
  run(ms: number): void {
    for (let left = ms; left > 0; left -= 60_000) {
      this.now += 60_000;
      this.relay(0);
    }
  }

  /** Restarts the relay. */
  restart(time: string, options: Partial<QuotaOptions> = {}): QuotaFixture {
    return new QuotaFixture(time, options, this.quota.toSavedQuota());
  }

  get resets(): string {
    return new Date(this.quota.resetsAtMs).toISOString().slice(0, 10);
  }
}

describe('a quota', () => {
  test('warns at 80 % and 95 % and reports that it is exhausted, each once', () => {
    const fixture = new QuotaFixture('2026-01-10');
    const seen: [number, string[], boolean][] = [];
    for (const bytes of [799, 1, 100, 49, 1, 49, 1, 0, 500]) {
      fixture.relay(bytes);
      seen.push([fixture.quota.usedBytes, fixture.events.splice(0), fixture.quota.isExhausted]);
    }
    assert.deepEqual(seen, [
      [799, [], false],
      [800, ['80 %'], false],
      [900, [], false],
      [949, [], false],
      [950, ['95 %'], false],
      [999, [], false],
      [1000, ['exhausted'], true],
      [1000, [], true],
      [1500, [], true],
    ]);
  });

  test('reports only the highest of several events that are due', () => {
    const fixture = new QuotaFixture('2026-01-10');
    fixture.relay(960);
    fixture.relay(0);
    const exhausted = new QuotaFixture('2026-01-10');
    exhausted.relay(5000);
    exhausted.relay(1);
    assert.deepEqual([fixture.events, exhausted.events], [['95 %'], ['exhausted']]);
  });

  test('counts each byte twice with in+out', () => {
    const fixture = new QuotaFixture('2026-01-10', { counts: 'in+out' });
    fixture.relay(400);
    assert.deepEqual([fixture.quota.usedBytes, fixture.events], [800, ['80 %']]);
    fixture.relay(100);
    assert.deepEqual([fixture.quota.isExhausted, fixture.events], [true, ['80 %', 'exhausted']]);
  });

  test('is reset with each period, and continues to count', () => {
    const fixture = new QuotaFixture('2026-01-10');
    fixture.relay(1000, '2026-01-31T23:59:59.999Z');
    assert.equal(fixture.resets, '2026-02-01');
    fixture.relay(10, '2026-02-01T00:00:00.000Z');
    assert.deepEqual(
      [fixture.quota.usedBytes, fixture.quota.isExhausted, fixture.resets],
      [10, false, '2026-03-01'],
    );
    fixture.relay(790);
    // Three months later: the machine was suspended.
    fixture.relay(0, '2026-05-20');
    fixture.relay(900);
    assert.deepEqual(fixture.events, ['exhausted', 'reset', '80 %', 'reset', '80 %']);
  });

  test('is reset each day if its period is a day', () => {
    const fixture = new QuotaFixture('2026-01-10T12:00:00Z', { period: 'day' });
    fixture.relay(900);
    fixture.relay(5, '2026-01-11T00:00:00Z');
    assert.deepEqual(
      [fixture.quota.usedBytes, fixture.events, fixture.resets],
      [5, ['80 %', 'reset'], '2026-01-12'],
    );
  });

  test('starts on its reset day, or on the last day of a shorter month', () => {
    const fixture = new QuotaFixture('2026-02-27T23:00:00Z', { resetDay: 31 });
    fixture.relay(500);
    assert.equal(fixture.resets, '2026-02-28');
    fixture.relay(1, '2026-02-28T00:00:00Z');
    assert.deepEqual([fixture.quota.usedBytes, fixture.resets], [1, '2026-03-31']);
  });
});

describe('a clock that is set', () => {
  for (const options of [MONTHLY, DAILY]) {
    for (const back of ['2026-03-14', '2026-02-15', '2025-01-01', '1970-01-01']) {
      test(`back to ${back} neither resets nor loses usage of the ${options.period}`, () => {
        const fixture = new QuotaFixture('2026-03-15T12:00:00Z', options);
        fixture.relay(500);
        const { resets } = fixture;
        fixture.relay(100, back);
        assert.deepEqual([fixture.quota.usedBytes, fixture.resets], [600, resets]);
        fixture.run(DAY_MS);
        fixture.relay(100);
        // After a restart in between, and after the clock is set again.
        const restarted = fixture.restart(back, options);
        restarted.relay(50);
        assert.deepEqual([restarted.quota.usedBytes, restarted.resets], [750, resets]);
        restarted.relay(10, '2026-03-15T12:00:01Z');
        assert.deepEqual([restarted.quota.usedBytes, restarted.events], [760, []]);
        fixture.relay(10, '2026-03-15T12:00:01Z');
        assert.deepEqual([fixture.quota.usedBytes, fixture.events], [710, []]);
      });
    }
  }

  test('forward past the reset starts a new period, which stays current when the clock is set back', () => {
    const fixture = new QuotaFixture('2026-03-15');
    fixture.relay(500);
    fixture.relay(100, '2026-04-02');
    assert.deepEqual([fixture.quota.usedBytes, fixture.events], [100, ['reset']]);
    fixture.relay(100, '2026-03-15');
    fixture.relay(100, '2026-04-01');
    assert.deepEqual(
      [fixture.quota.usedBytes, fixture.events, fixture.resets],
      [300, ['reset'], '2026-05-01'],
    );
    fixture.relay(1, '2026-05-01');
    assert.deepEqual([fixture.quota.usedBytes, fixture.events], [1, ['reset', 'reset']]);
  });

  test('forward by years and back is accepted after two days, and no usage is lost', () => {
    const fixture = new QuotaFixture('2026-03-15');
    fixture.relay(500, '2031-01-01');
    fixture.relay(100, '2026-03-15');
    fixture.run(2 * DAY_MS - 60_000);
    assert.equal(fixture.resets, '2031-02-01');
    fixture.run(60_000);
    assert.deepEqual(
      [fixture.quota.usedBytes, fixture.resets, fixture.events],
      [600, '2026-04-01', ['reset']],
    );
    fixture.relay(1, '2026-04-01');
    assert.deepEqual([fixture.quota.usedBytes, fixture.events], [1, ['reset', 'reset']]);
  });

  test('back within the period keeps the last counted day', () => {
    const fixture = new QuotaFixture('2026-03-15');
    fixture.relay(500);
    fixture.relay(100, '2026-03-14');
    assert.deepEqual(fixture.quota.toSavedQuota(), {
      day: '2026-03-15',
      period: 'month',
      relayedBytes: 600,
      countsSinceMs: Date.parse('2026-03-15'),
    });
    // Otherwise a new reset day in between would lose them.
    assert.equal(fixture.restart('2026-03-15', { resetDay: 15 }).quota.usedBytes, 600);
  });

  test('back several times is not accepted for the sum of the times', () => {
    const fixture = new QuotaFixture('2026-03-15');
    fixture.relay(500);
    for (let jump = 0; jump < 100; jump += 1) {
      fixture.relay(0, '2026-01-01');
      fixture.relay(0, '2026-01-20');
    }
    assert.deepEqual([fixture.resets, fixture.quota.usedBytes], ['2026-04-01', 500]);
    // Nor for separate short times.
    for (let time = 0; time < 3; time += 1) {
      fixture.relay(0, '2026-02-01');
      fixture.run(DAY_MS);
      fixture.relay(0, '2026-03-15');
    }
    assert.deepEqual([fixture.resets, fixture.quota.usedBytes, fixture.events], ['2026-04-01', 500, []]);
  });
});

describe('a restart', () => {
  const used = (relayedBytes: number, day = '2026-03-10', period: 'month' | 'day' = 'month'): SavedQuota => ({
    day,
    period,
    relayedBytes,
  });

  test('loses no usage, and warns once more', () => {
    const before = new QuotaFixture('2026-03-10T23:00:00Z');
    before.relay(850);
    assert.deepEqual(before.quota.toSavedQuota(), {
      ...used(850),
      countsSinceMs: Date.parse('2026-03-10T23:00:00Z'),
    });
    const after = before.restart('2026-03-11');
    assert.equal(after.quota.usedBytes, 850);
    after.relay(10);
    after.relay(10);
    assert.deepEqual([after.quota.usedBytes, after.events], [870, ['80 %']]);
  });

  test('reports an exhausted quota at once', () => {
    const after = new QuotaFixture('2026-03-11', {}, used(1000));
    assert.deepEqual([after.quota.isExhausted, after.events], [true, []]);
    after.relay(0);
    assert.deepEqual(after.events, ['exhausted']);
  });

  test('in a later period starts at zero', () => {
    const after = new QuotaFixture('2026-04-01', {}, used(1000));
    after.relay(0);
    assert.deepEqual([after.quota.usedBytes, after.events], [0, []]);
  });

  test('with another limit or another `counts` keeps the usage', () => {
    const raised = new QuotaFixture('2026-03-11', { limitBytes: 2000 }, used(1000));
    const billed = new QuotaFixture('2026-03-11', { counts: 'in+out' }, used(600));
    assert.deepEqual([raised.quota.isExhausted, raised.quota.usedBytes], [false, 1000]);
    assert.deepEqual([billed.quota.isExhausted, billed.quota.usedBytes], [true, 1200]);
    const saved = new QuotaFixture('2026-03-11', { counts: 'in+out' }, billed.quota.toSavedQuota());
    assert.equal(saved.quota.usedBytes, 1200);
  });

  const resetDays: readonly (readonly [string, number, string, number, string])[] = [
    ['keeps the usage if that day is later in the period', 15, '2026-03-11', 700, '2026-03-15'],
    ['keeps the usage if that day was before the last save', 5, '2026-03-11', 700, '2026-04-05'],
    ['keeps the usage if that day is the day of the last save', 10, '2026-03-11', 700, '2026-04-10'],
    ['starts at zero if that day has passed since the last save', 11, '2026-03-11', 0, '2026-04-11'],
  ];
  for (const [result, resetDay, time, bytes, resets] of resetDays) {
    test(`with another reset day ${result}`, () => {
      const after = new QuotaFixture(time, { resetDay }, used(700));
      assert.deepEqual([after.quota.usedBytes, after.resets], [bytes, resets]);
    });
  }

  test('from days to months keeps the usage of the day; from months to days starts at zero', () => {
    const month = new QuotaFixture('2026-03-10', {}, used(700, '2026-03-10', 'day'));
    const day = new QuotaFixture('2026-03-10', { period: 'day' }, used(700));
    assert.deepEqual([month.quota.usedBytes, day.quota.usedBytes], [700, 0]);
  });

  test('has nothing to save on a day without bytes', () => {
    const fixture = new QuotaFixture('2026-03-10T01:00:00Z');
    fixture.relay(5);
    const saved = fixture.quota.toSavedQuota();
    fixture.relay(0, '2026-03-10T23:00:00Z');
    assert.deepEqual(fixture.quota.toSavedQuota(), saved);
    fixture.relay(0, '2026-03-11T00:00:00Z');
    assert.notDeepEqual(fixture.quota.toSavedQuota(), saved);
  });
});

describe('the time that a quota covers', () => {
  const isoTime = (ms: number): string => new Date(ms).toISOString();
  const times = ({ quota }: QuotaFixture): [started: string, since: string] => [
    isoTime(quota.periodStartedAtMs),
    isoTime(quota.countsSinceMs),
  ];

  test('begins with the first start, and from then on with each period', () => {
    const fixture = new QuotaFixture('2026-03-10T23:00:00Z');
    fixture.relay(5);
    const first = ['2026-03-01T00:00:00.000Z', '2026-03-10T23:00:00.000Z'];
    assert.deepEqual(times(fixture), first);
    assert.deepEqual(times(fixture.restart('2026-03-12')), first);
    fixture.relay(5, '2026-04-02');
    const second = ['2026-04-01T00:00:00.000Z', '2026-04-01T00:00:00.000Z'];
    assert.deepEqual(times(fixture), second);
    assert.deepEqual(times(fixture.restart('2026-04-03')), second);
    // By another reset day this period began before.
    assert.deepEqual(times(fixture.restart('2026-04-03', { resetDay: 15 })), [
      '2026-03-15T00:00:00.000Z',
      '2026-04-01T00:00:00.000Z',
    ]);
  });

  test('is the whole period after a restart in a later period', () => {
    const fixture = new QuotaFixture('2026-03-10');
    fixture.relay(5);
    assert.deepEqual(times(fixture.restart('2026-04-03')), [
      '2026-04-01T00:00:00.000Z',
      '2026-04-01T00:00:00.000Z',
    ]);
  });

  const older: readonly (readonly [period: SavedQuota['period'], since: string])[] = [
    ['month', '2026-03-01T00:00:00.000Z'],
    ['day', '2026-03-10T00:00:00.000Z'],
  ];
  for (const [period, since] of older) {
    test(`begins with the ${period} of a file of an older version`, () => {
      const fixture = new QuotaFixture('2026-03-11', {}, { day: '2026-03-10', period, relayedBytes: 5 });
      assert.deepEqual(times(fixture), ['2026-03-01T00:00:00.000Z', since]);
    });
  }

  test('is never in the future, even if the clock was set back', () => {
    const fixture = new QuotaFixture('2026-03-10');
    fixture.relay(5);
    const saved = { ...fixture.quota.toSavedQuota(), countsSinceMs: Date.parse('2026-03-20') };
    assert.equal(times(new QuotaFixture('2026-03-12', {}, saved))[1], '2026-03-12T00:00:00.000Z');
  });
});

describe('a quota period', () => {
  const months: readonly (readonly [resetDay: number, time: string, start: string, end: string])[] = [
    [1, '2026-01-01T00:00:00.000Z', '2026-01-01', '2026-02-01'],
    [1, '2026-01-31T23:59:59.999Z', '2026-01-01', '2026-02-01'],
    [15, '2026-01-14T23:59:59.999Z', '2025-12-15', '2026-01-15'],
    [15, '2026-01-15T00:00:00.000Z', '2026-01-15', '2026-02-15'],
    [31, '2026-01-30T12:00:00.000Z', '2025-12-31', '2026-01-31'],
    [31, '2026-02-27T12:00:00.000Z', '2026-01-31', '2026-02-28'],
    [31, '2026-02-28T00:00:00.000Z', '2026-02-28', '2026-03-31'],
    [31, '2026-03-30T00:00:00.000Z', '2026-02-28', '2026-03-31'],
    [30, '2028-02-28T23:00:00.000Z', '2028-01-30', '2028-02-29'],
    [29, '2028-02-29T00:00:00.000Z', '2028-02-29', '2028-03-29'],
    [31, '2026-12-31T00:00:00.000Z', '2026-12-31', '2027-01-31'],
  ];
  for (const [resetDay, time, start, end] of months) {
    test(`that starts on day ${resetDay} lasts from ${start} to ${end} at ${time}`, () => {
      const when = { period: 'month', resetDay } as const;
      const at = Date.parse(time);
      const found = [periodStart(at, when), periodEnd(at, when)].map((ms) => new Date(ms).toISOString());
      assert.deepEqual(found, [`${start}T00:00:00.000Z`, `${end}T00:00:00.000Z`]);
    });
  }

  test('of a day lasts from midnight to midnight', () => {
    const when = { period: 'day', resetDay: 15 } as const;
    for (const time of ['2026-03-29T00:00:00.000Z', '2026-03-29T23:59:59.999Z']) {
      const at = Date.parse(time);
      assert.equal(periodStart(at, when), Date.parse('2026-03-29'));
      assert.equal(periodEnd(at, when), Date.parse('2026-03-30'));
    }
  });

  test('has no gap to the next one, and starts at midnight', () => {
    const times = fc.integer({ min: Date.parse('1970-01-02'), max: Date.parse('2200-01-01') });
    const whens = fc.record({
      period: fc.constantFrom('month', 'day'),
      resetDay: fc.integer({ min: 1, max: 31 }),
    });
    fc.assert(
      fc.property(times, whens, (time, when) => {
        const [start, end] = [periodStart(time, when), periodEnd(time, when)];
        assert.ok(start <= time && time < end);
        assert.equal(periodStart(end, when), end);
        assert.equal(periodStart(end - 1, when), start);
        assert.ok(Number.isInteger(start / 86_400_000));
      }),
      { numRuns: 1000 },
    );
  });
});
