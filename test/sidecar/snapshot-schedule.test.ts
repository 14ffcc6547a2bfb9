import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { Snapshot } from '../../src/sidecar/api.ts';
import { SnapshotSchedule } from '../../src/sidecar/snapshots/snapshot-schedule.ts';

const HOUR_MS = 3_600_000;
const START = Date.UTC(2026, 10, 23, 5);

function snapshotAt(time: number): Snapshot {
  return { name: `${time}.sqlite`, time: new Date(time).toISOString(), bytes: 1, sha256: '', rows: 0 };
}

/** A schedule with mocked clock and timers, and a taker that fails on demand. */
class Stage {
  now = START;
  fault: string | null = null;
  readonly attempts: number[] = [];
  readonly seen: string[] = [];
  readonly schedule: SnapshotSchedule;
  readonly #context: TestContext;

  constructor(context: TestContext, existing: readonly Snapshot[] = [], intervalMs = HOUR_MS) {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    this.#context = context;
    this.schedule = new SnapshotSchedule({
      taker: { list: () => existing, take: () => this.#take() },
      intervalMs: intervalMs,
      events: {
        onTaken: ({ name }) => this.seen.push(`taken ${name}`),
        onFailed: (problem, failures) => this.seen.push(`${problem} ${failures}`),
        onRecovered: (failures) => this.seen.push(`recovered ${failures}`),
      },
      wallClock: () => this.now,
    });
    context.after(() => this.schedule.close());
  }

  /** Starts the schedule. Resolves after the first attempt, if one is due. */
  async start(): Promise<void> {
    this.schedule.start();
    await settled();
  }

  /** Advances the time, second by second. */
  async pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second += 1) {
      this.now += 1000;
      this.#context.mock.timers.tick(1000);
      await settled();
    }
  }

  /** Seconds from the start to each attempt. */
  get attemptSeconds(): number[] {
    return this.attempts.map((time) => (time - START) / 1000);
  }

  async #take(): Promise<Snapshot> {
    this.attempts.push(this.now);
    if (this.fault !== null) throw new Error(this.fault);
    return snapshotAt(this.now);
  }
}

/** Resolves when all pending callbacks have run. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe('the schedule', () => {
  test('takes a snapshot at the start if there is none, then one per interval', async (context) => {
    const stage = new Stage(context);
    await stage.start();
    assert.equal(stage.schedule.next.getTime(), START + HOUR_MS);
    await stage.pass(2 * 3600 + 10);
    assert.deepEqual(stage.attemptSeconds, [0, 3600, 7200]);
    assert.equal(stage.seen.length, 3);
  });

  test('takes no snapshot before it is started', async (context) => {
    const stage = new Stage(context);
    await stage.pass(60);
    await stage.schedule.take();
    await stage.pass(2 * 3600);
    assert.deepEqual(stage.attemptSeconds, [60]);
  });

  test('continues from the newest existing snapshot', async (context) => {
    const stage = new Stage(context, [snapshotAt(START - 3_000_000), snapshotAt(START - 9_000_000)]);
    await stage.start();
    assert.equal(stage.schedule.next.getTime(), START + 600_000);
    await stage.pass(700);
    assert.deepEqual(stage.attemptSeconds, [600]);
  });

  test('takes a snapshot at the start if the newest is too old', async (context) => {
    const stage = new Stage(context, [snapshotAt(START - 2 * HOUR_MS)]);
    await stage.start();
    await stage.pass(60);
    assert.deepEqual(stage.attemptSeconds, [0]);
  });

  test('retries after 1 s, 5 s, 15 s, then every minute, and reports failures', async (context) => {
    const stage = new Stage(context);
    stage.fault = 'no room';
    await stage.start();
    await stage.pass(100);
    assert.deepEqual(stage.attemptSeconds, [0, 1, 6, 21, 81]);
    assert.equal(stage.schedule.problem, 'no room');
    assert.equal(stage.schedule.next.getTime(), START + 141_000);
    stage.fault = null;
    await stage.pass(100);
    assert.equal(stage.schedule.problem, null);
    assert.deepEqual(stage.schedule.counts, { taken: 1, failed: 5 });
    assert.deepEqual(stage.seen.slice(-3), ['no room 5', 'recovered 5', `taken ${START + 141_000}.sqlite`]);
    assert.equal(stage.schedule.next.getTime(), START + 141_000 + HOUR_MS);
  });

  test('retries at least once per interval', async (context) => {
    const stage = new Stage(context, [], 2000);
    stage.fault = 'no room';
    await stage.start();
    await stage.pass(6);
    assert.deepEqual(stage.attemptSeconds, [0, 1, 3, 5]);
  });

  test('restarts the interval after a requested snapshot, which concurrent callers share', async (context) => {
    const stage = new Stage(context);
    await stage.start();
    await stage.pass(1800);
    const [one, other] = await Promise.all([stage.schedule.take(), stage.schedule.take()]);
    assert.equal(one, other);
    await stage.pass(3601);
    assert.deepEqual(stage.attemptSeconds, [0, 1800, 5400]);
    assert.deepEqual(stage.schedule.counts, { taken: 3, failed: 0 });
  });

  test('rejects a request with the reason of the failure', async (context) => {
    const stage = new Stage(context);
    stage.fault = 'no room';
    await assert.rejects(stage.schedule.take(), /no room/u);
    assert.equal(stage.schedule.problem, 'no room');
    assert.deepEqual(stage.seen, ['no room 1']);
  });

  test('takes one snapshot when the clock is set forward', async (context) => {
    const stage = new Stage(context);
    await stage.start();
    await stage.pass(100);
    stage.now += 1000 * HOUR_MS;
    await stage.pass(100);
    assert.equal(stage.attempts.length, 2);
    await stage.pass(3600);
    assert.equal(stage.attempts.length, 3);
  });

  test('waits at most one interval after the clock is set back', async (context) => {
    const stage = new Stage(context);
    await stage.start();
    await stage.pass(100);
    stage.now -= 1000 * HOUR_MS;
    await stage.pass(3700);
    assert.equal(stage.attempts.length, 2);
  });

  test('waits at most one interval after a snapshot from the future', async (context) => {
    const stage = new Stage(context, [snapshotAt(START + 1000 * HOUR_MS)]);
    await stage.start();
    await stage.pass(3700);
    assert.deepEqual(stage.attemptSeconds, [3600]);
  });

  test('takes no snapshot after its close, and does not report aborted ones', async (context) => {
    const stage = new Stage(context);
    stage.fault = 'broken off';
    stage.schedule.start();
    stage.schedule.close();
    await stage.pass(2 * 3600);
    assert.deepEqual(stage.attemptSeconds, [0]);
    assert.deepEqual(stage.seen, []);
  });
});
