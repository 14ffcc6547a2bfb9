import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { Snapshot } from '../../../../src/sidecar/api.ts';
import { SnapshotSchedule } from '../../../../src/sidecar/snapshots/snapshot-schedule.ts';

const HOUR_MS = 3_600_000;
const START = Date.UTC(2026, 10, 23, 5);

function snapshotAt(time: number): Snapshot {
  return { name: `${time}.sqlite`, time: new Date(time).toISOString(), bytes: 1, sha256: '', rows: 0 };
}

/** A schedule with mocked clock and timers, and a taker that fails on demand. */
class ScheduleFixture {
  now = START;
  failure: string | null = null;
  readonly attempts: number[] = [];
  readonly events: string[] = [];
  readonly schedule: SnapshotSchedule;
  readonly #context: TestContext;

  constructor(context: TestContext, existing: readonly Snapshot[] = [], intervalMs = HOUR_MS) {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    this.#context = context;
    this.schedule = new SnapshotSchedule({
      taker: { list: () => existing, take: () => this.#take() },
      intervalMs: intervalMs,
      events: {
        onTaken: ({ name }) => this.events.push(`taken ${name}`),
        onFailed: (problem, failures) => this.events.push(`${problem} ${failures}`),
        onRecovered: (failures) => this.events.push(`recovered ${failures}`),
      },
      wallClock: () => this.now,
    });
    context.after(() => this.schedule.close());
  }

  /** Starts the schedule. Resolves after the first attempt, if one is due. */
  async start(): Promise<void> {
    this.schedule.start();
    await runPendingCallbacks();
  }

  /** Advances the time, second by second. */
  async pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second += 1) {
      this.now += 1000;
      this.#context.mock.timers.tick(1000);
      await runPendingCallbacks();
    }
  }

  /** Seconds from the start to each attempt. */
  get attemptSeconds(): number[] {
    return this.attempts.map((time) => (time - START) / 1000);
  }

  async #take(): Promise<Snapshot> {
    this.attempts.push(this.now);
    if (this.failure !== null) throw new Error(this.failure);
    return snapshotAt(this.now);
  }
}

/** Resolves when all pending callbacks have run. */
function runPendingCallbacks(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe('the schedule', () => {
  test('takes a snapshot at the start if there is none, then one per interval', async (context) => {
    const fixture = new ScheduleFixture(context);
    await fixture.start();
    assert.equal(fixture.schedule.next.getTime(), START + HOUR_MS);
    await fixture.pass(2 * 3600 + 10);
    assert.deepEqual(fixture.attemptSeconds, [0, 3600, 7200]);
    assert.equal(fixture.events.length, 3);
  });

  test('takes no snapshot before it is started', async (context) => {
    const fixture = new ScheduleFixture(context);
    await fixture.pass(60);
    await fixture.schedule.take();
    await fixture.pass(2 * 3600);
    assert.deepEqual(fixture.attemptSeconds, [60]);
  });

  test('continues from the newest existing snapshot', async (context) => {
    const fixture = new ScheduleFixture(context, [
      snapshotAt(START - 3_000_000),
      snapshotAt(START - 9_000_000),
    ]);
    await fixture.start();
    assert.equal(fixture.schedule.next.getTime(), START + 600_000);
    await fixture.pass(700);
    assert.deepEqual(fixture.attemptSeconds, [600]);
  });

  test('takes a snapshot at the start if the newest is too old', async (context) => {
    const fixture = new ScheduleFixture(context, [snapshotAt(START - 2 * HOUR_MS)]);
    await fixture.start();
    await fixture.pass(60);
    assert.deepEqual(fixture.attemptSeconds, [0]);
  });

  test('retries after 1 s, 5 s, 15 s, then every minute, and reports failures', async (context) => {
    const fixture = new ScheduleFixture(context);
    fixture.failure = 'no space';
    await fixture.start();
    await fixture.pass(100);
    assert.deepEqual(fixture.attemptSeconds, [0, 1, 6, 21, 81]);
    assert.equal(fixture.schedule.problem, 'no space');
    assert.equal(fixture.schedule.next.getTime(), START + 141_000);
    fixture.failure = null;
    await fixture.pass(100);
    assert.equal(fixture.schedule.problem, null);
    assert.deepEqual(fixture.schedule.counts, { taken: 1, failed: 5 });
    assert.deepEqual(fixture.events.slice(-3), [
      'no space 5',
      'recovered 5',
      `taken ${START + 141_000}.sqlite`,
    ]);
    assert.equal(fixture.schedule.next.getTime(), START + 141_000 + HOUR_MS);
  });

  test('retries at least once per interval', async (context) => {
    const fixture = new ScheduleFixture(context, [], 2000);
    fixture.failure = 'no space';
    await fixture.start();
    await fixture.pass(6);
    assert.deepEqual(fixture.attemptSeconds, [0, 1, 3, 5]);
  });

  test('restarts the interval after a requested snapshot, which concurrent callers share', async (context) => {
    const fixture = new ScheduleFixture(context);
    await fixture.start();
    await fixture.pass(1800);
    const [one, other] = await Promise.all([fixture.schedule.take(), fixture.schedule.take()]);
    assert.equal(one, other);
    await fixture.pass(3601);
    assert.deepEqual(fixture.attemptSeconds, [0, 1800, 5400]);
    assert.deepEqual(fixture.schedule.counts, { taken: 3, failed: 0 });
  });

  test('rejects a request with the reason of the failure', async (context) => {
    const fixture = new ScheduleFixture(context);
    fixture.failure = 'no space';
    await assert.rejects(fixture.schedule.take(), /no space/u);
    assert.equal(fixture.schedule.problem, 'no space');
    assert.deepEqual(fixture.events, ['no space 1']);
  });

  test('takes one snapshot when the clock is set forward', async (context) => {
    const fixture = new ScheduleFixture(context);
    await fixture.start();
    await fixture.pass(100);
    fixture.now += 1000 * HOUR_MS;
    await fixture.pass(100);
    assert.equal(fixture.attempts.length, 2);
    await fixture.pass(3600);
    assert.equal(fixture.attempts.length, 3);
  });

  test('waits at most one interval after the clock is set back', async (context) => {
    const fixture = new ScheduleFixture(context);
    await fixture.start();
    await fixture.pass(100);
    fixture.now -= 1000 * HOUR_MS;
    await fixture.pass(3700);
    assert.equal(fixture.attempts.length, 2);
  });

  test('waits at most one interval after a snapshot from the future', async (context) => {
    const fixture = new ScheduleFixture(context, [snapshotAt(START + 1000 * HOUR_MS)]);
    await fixture.start();
    await fixture.pass(3700);
    assert.deepEqual(fixture.attemptSeconds, [3600]);
  });

  test('takes no snapshot after its close, and does not report aborted ones', async (context) => {
    const fixture = new ScheduleFixture(context);
    fixture.failure = 'aborted';
    fixture.schedule.start();
    fixture.schedule.close();
    await fixture.pass(2 * 3600);
    assert.deepEqual(fixture.attemptSeconds, [0]);
    assert.deepEqual(fixture.events, []);
  });
});
