import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { RelayConfig } from '../../../src/config/relay-config.ts';
import { QuotaFile, QuotaFileError, loadQuota } from '../../../src/limits/quota-file.ts';
import { QuotaTracker } from '../../../src/limits/quota.ts';
import type { SavedQuota } from '../../../src/limits/quota.ts';
import { scratch, until } from '../../support/scratch.ts';

const DAY_MS = 86_400_000;
const NOON = Date.parse('2026-03-10T12:00:00Z');

type QuotaTrackerOptions = NonNullable<RelayConfig['quota']>;

const OPTIONS: Omit<QuotaTrackerOptions, 'path'> = {
  limitBytes: 1000,
  period: 'day',
  resetDay: 1,
  counts: 'relayed',
  graceMs: 60_000,
};

/** A tracker with its events and with clocks that only the test changes. */
class TrackerFixture implements AsyncDisposable {
  readonly events: string[] = [];
  relayedBytes = 0;
  wallMs = NOON;
  checks = 0;
  readonly path: string;
  #tracker: QuotaTracker | null = null;

  constructor(path: string) {
    this.path = path;
  }

  tracker(options: Partial<QuotaTrackerOptions> = {}): QuotaTracker {
    this.#tracker = new QuotaTracker(
      { ...OPTIONS, path: this.path, ...options },
      {
        relayedBytes: () => {
          this.checks += 1;
          return this.relayedBytes;
        },
        wallClock: () => this.wallMs,
        onWarning: (percent) => this.events.push(`${percent} %`),
        onExhausted: () => this.events.push('exhausted'),
        onReset: () => this.events.push('reset'),
        onGraceEnd: () => this.events.push('grace over'),
        onSaveFailed: (code) => this.events.push(code),
        onSaveRecovered: () => this.events.push('saved again'),
      },
    );
    return this.#tracker;
  }

  pass(ms: number): void {
    this.wallMs += ms;
    mock.timers.tick(ms);
  }

  /** The saved bytes, which a tracker may be about to replace. Null if there is no file. */
  get savedBytes(): unknown {
    if (!existsSync(this.path)) return null;
    const saved: unknown = JSON.parse(readFileSync(this.path, 'utf8'));
    return typeof saved === 'object' && saved !== null && 'relayedBytes' in saved ? saved.relayedBytes : null;
  }

  /** Waits for the last write, so that the directory can be removed. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tracker?.close();
  }
}

async function openTracker(context: TestContext): Promise<TrackerFixture> {
  return new TrackerFixture(join(await scratch(context), 'quota.json'));
}

async function save(path: string, saved: SavedQuota): Promise<void> {
  await new QuotaFile(
    path,
    (code) => assert.fail(code),
    () => assert.fail(),
  ).save(saved);
}

describe('a quota tracker', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setInterval', 'setTimeout'] }));
  afterEach(() => mock.timers.reset());

  test('checks every second, and not earlier', async (context) => {
    await using fixture = await openTracker(context);
    const tracker = fixture.tracker();
    fixture.relayedBytes = 10;
    fixture.pass(999);
    assert.deepEqual([fixture.checks, tracker.quota.usedBytes], [0, 0]);
    fixture.pass(1);
    assert.deepEqual([fixture.checks, tracker.quota.usedBytes], [1, 10]);
    fixture.relayedBytes = 15;
    fixture.pass(1000);
    assert.deepEqual([fixture.checks, tracker.quota.usedBytes], [2, 15]);
  });

  test('saves the usage with each check, for the start after a crash', async (context) => {
    await using fixture = await openTracker(context);
    fixture.tracker();
    fixture.relayedBytes = 10;
    fixture.pass(1000);
    await until(() => fixture.savedBytes === 10);
    fixture.relayedBytes = 25;
    fixture.pass(1000);
    await until(() => fixture.savedBytes === 25);
  });

  test('starts with the saved usage, and reports it', async (context) => {
    await using fixture = await openTracker(context);
    await save(fixture.path, { day: '2026-03-10', period: 'day', relayedBytes: 300 });
    const tracker = fixture.tracker({ counts: 'in+out' });
    assert.deepEqual(
      [tracker.quota.usedBytes, tracker.quota.limitBytes, new Date(tracker.quota.resetsAtMs).toISOString()],
      [600, 1000, '2026-03-11T00:00:00.000Z'],
    );
    fixture.relayedBytes = 50;
    tracker.check();
    assert.equal(tracker.quota.usedBytes, 700);
    await tracker.close();
    assert.deepEqual(loadQuota(fixture.path), {
      day: '2026-03-10',
      period: 'day',
      relayedBytes: 350,
      countsSinceMs: Date.parse('2026-03-10'),
    });
  });

  test('does not start if the usage cannot be read, and leaves nothing behind', async (context) => {
    await using fixture = await openTracker(context);
    await writeFile(fixture.path, 'half a fi');
    assert.throws(() => fixture.tracker(), QuotaFileError);
    fixture.pass(5000);
    assert.deepEqual([fixture.checks, readFileSync(fixture.path, 'utf8')], [0, 'half a fi']);
  });

  test('reports each warning', async (context) => {
    await using fixture = await openTracker(context);
    const tracker = fixture.tracker();
    for (const bytes of [799, 800, 950]) {
      fixture.relayedBytes = bytes;
      tracker.check();
    }
    assert.deepEqual(fixture.events, ['80 %', '95 %']);
  });

  test('reports an exhausted quota with the first check after a restart', async (context) => {
    await using fixture = await openTracker(context);
    await save(fixture.path, { day: '2026-03-10', period: 'day', relayedBytes: 1000 });
    const tracker = fixture.tracker();
    assert.deepEqual(fixture.events, []);
    tracker.check();
    assert.deepEqual(fixture.events, ['exhausted']);
  });

  test('gives pairs one grace period when the quota is exhausted', async (context) => {
    await using fixture = await openTracker(context);
    const tracker = fixture.tracker();
    fixture.relayedBytes = 1000;
    tracker.check();
    fixture.pass(59_999);
    assert.deepEqual(fixture.events, ['exhausted']);
    fixture.pass(1);
    assert.deepEqual(fixture.events, ['exhausted', 'grace over']);
    fixture.relayedBytes = 5000;
    fixture.pass(600_000);
    assert.deepEqual(fixture.events, ['exhausted', 'grace over']);
  });

  test('never closes pairs if there is no limit of the grace period', async (context) => {
    await using fixture = await openTracker(context);
    const tracker = fixture.tracker({ graceMs: null });
    fixture.relayedBytes = 1000;
    tracker.check();
    fixture.pass(DAY_MS / 4);
    assert.deepEqual(fixture.events, ['exhausted']);
  });

  test('closes pairs at once if the grace period is zero', async (context) => {
    await using fixture = await openTracker(context);
    const tracker = fixture.tracker({ graceMs: 0 });
    fixture.relayedBytes = 1000;
    tracker.check();
    fixture.pass(1);
    assert.deepEqual(fixture.events, ['exhausted', 'grace over']);
  });

  test('stops the grace period at a reset, and has a full one the next time', async (context) => {
    await using fixture = await openTracker(context);
    fixture.wallMs = Date.parse('2026-03-10T23:59:30Z');
    const tracker = fixture.tracker();
    fixture.relayedBytes = 1000;
    tracker.check();
    fixture.pass(90_000);
    assert.deepEqual([fixture.events, tracker.quota.usedBytes], [['exhausted', 'reset'], 0]);
    fixture.relayedBytes = 2000;
    tracker.check();
    fixture.pass(59_999);
    assert.deepEqual(fixture.events, ['exhausted', 'reset', 'exhausted']);
    fixture.pass(1);
    assert.deepEqual(fixture.events, ['exhausted', 'reset', 'exhausted', 'grace over']);
  });

  test('reports a failed save once, and continues to count and retry', async (context) => {
    await using fixture = new TrackerFixture(join(await scratch(context), 'mounted', 'quota.json'));
    await mkdir(dirname(fixture.path));
    const tracker = fixture.tracker();
    await rename(dirname(fixture.path), `${dirname(fixture.path)}-gone`);
    fixture.relayedBytes = 10;
    fixture.pass(1000);
    await until(() => fixture.events.length > 0);
    fixture.relayedBytes = 20;
    fixture.pass(1000);
    assert.deepEqual([fixture.events, tracker.quota.usedBytes], [['ENOENT'], 20]);
    await rename(`${dirname(fixture.path)}-gone`, dirname(fixture.path));
    await until(() => {
      fixture.pass(1000);
      return fixture.events.length > 1;
    });
    assert.equal(fixture.savedBytes, 20);
    assert.deepEqual(fixture.events, ['ENOENT', 'saved again']);
  });

  test('counts and saves the last bytes when it closes, and then stops checking', async (context) => {
    await using fixture = await openTracker(context);
    const tracker = fixture.tracker();
    fixture.relayedBytes = 10;
    fixture.pass(1000);
    fixture.relayedBytes = 42;
    await tracker.close();
    assert.deepEqual([tracker.quota.usedBytes, fixture.savedBytes], [42, 42]);
    const { checks } = fixture;
    fixture.relayedBytes = 999;
    fixture.pass(10_000);
    assert.deepEqual([fixture.checks, tracker.quota.usedBytes, fixture.savedBytes], [checks, 42, 42]);
  });

  test('closes no pairs after it has closed', async (context) => {
    await using fixture = await openTracker(context);
    const tracker = fixture.tracker();
    fixture.relayedBytes = 1000;
    tracker.check();
    await tracker.close();
    fixture.pass(600_000);
    assert.deepEqual(fixture.events, ['exhausted']);
  });

  test('closes no pairs if closing finds the quota exhausted', async (context) => {
    await using fixture = await openTracker(context);
    const tracker = fixture.tracker();
    fixture.relayedBytes = 1000;
    await tracker.close();
    fixture.pass(600_000);
    assert.deepEqual(fixture.events, ['exhausted']);
  });
});
