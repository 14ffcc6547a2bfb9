import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import type { TestContext } from 'node:test';
import { QuotaFile, QuotaFileError, loadQuota } from '../../src/limits/quota-file.ts';
import { QuotaTracker } from '../../src/limits/quota.ts';
import type { QuotaTrackerOptions, SavedQuota } from '../../src/limits/quota.ts';
import { scratch, until } from '../support/scratch.ts';

const DAY_MS = 86_400_000;
const NOON = Date.parse('2026-03-10T12:00:00Z');

const OPTIONS: Omit<QuotaTrackerOptions, 'path'> = {
  limitBytes: 1000,
  period: 'day',
  resetDay: 1,
  counts: 'relayed',
  graceMs: 60_000,
};

/** What a keeper has told, what it is asked for, and its clocks, which only a test moves. */
class House implements AsyncDisposable {
  readonly told: string[] = [];
  relayedBytes = 0;
  wallMs = NOON;
  looks = 0;
  readonly path: string;
  #keeper: QuotaTracker | null = null;

  constructor(path: string) {
    this.path = path;
  }

  keeper(options: Partial<QuotaTrackerOptions> = {}): QuotaTracker {
    this.#keeper = new QuotaTracker(
      { ...OPTIONS, path: this.path, ...options },
      {
        relayedBytes: () => {
          this.looks += 1;
          return this.relayedBytes;
        },
        wallClock: () => this.wallMs,
        onWarning: (percent) => this.told.push(`${percent} %`),
        onExhausted: () => this.told.push('spent'),
        onReset: () => this.told.push('reset'),
        onGraceEnd: () => this.told.push('grace over'),
        onSaveFailed: (code) => this.told.push(code),
      },
    );
    return this.#keeper;
  }

  pass(ms: number): void {
    this.wallMs += ms;
    mock.timers.tick(ms);
  }

  /** What the file has, which a keeper may be about to replace; null where there is none. */
  get savedBytes(): unknown {
    if (!existsSync(this.path)) return null;
    const saved: unknown = JSON.parse(readFileSync(this.path, 'utf8'));
    return typeof saved === 'object' && saved !== null && 'relayedBytes' in saved ? saved.relayedBytes : null;
  }

  /** Nothing is written any longer, so that the directory may go. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#keeper?.close();
  }
}

async function relay(context: TestContext): Promise<House> {
  return new House(join(await scratch(context), 'quota.json'));
}

async function save(path: string, saved: SavedQuota): Promise<void> {
  await new QuotaFile(path, (code) => assert.fail(code)).save(saved);
}

describe('the keeper of a quota', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setInterval', 'setTimeout'] }));
  afterEach(() => mock.timers.reset());

  test('looks every second, and not before', async (context) => {
    await using home = await relay(context);
    const keeper = home.keeper();
    home.relayedBytes = 10;
    home.pass(999);
    assert.deepEqual([home.looks, keeper.usedBytes], [0, 0]);
    home.pass(1);
    assert.deepEqual([home.looks, keeper.usedBytes], [1, 10]);
    home.relayedBytes = 15;
    home.pass(1000);
    assert.deepEqual([home.looks, keeper.usedBytes], [2, 15]);
  });

  test('saves what it has seen with each look, for whoever comes after a crash', async (context) => {
    await using home = await relay(context);
    home.keeper();
    home.relayedBytes = 10;
    home.pass(1000);
    await until(() => home.savedBytes === 10);
    home.relayedBytes = 25;
    home.pass(1000);
    await until(() => home.savedBytes === 25);
  });

  test('begins with what was saved, and says what there is', async (context) => {
    await using home = await relay(context);
    await save(home.path, { day: '2026-03-10', period: 'day', relayedBytes: 300 });
    const keeper = home.keeper({ counts: 'in+out' });
    assert.deepEqual(
      [keeper.usedBytes, keeper.limitBytes, new Date(keeper.resetsAtMs).toISOString()],
      [600, 1000, '2026-03-11T00:00:00.000Z'],
    );
    home.relayedBytes = 50;
    keeper.check();
    assert.equal(keeper.usedBytes, 700);
    await keeper.close();
    assert.deepEqual(loadQuota(home.path), { day: '2026-03-10', period: 'day', relayedBytes: 350 });
  });

  test('does not begin where what was used can not be known, and leaves nothing behind', async (context) => {
    await using home = await relay(context);
    await writeFile(home.path, 'half a fi');
    assert.throws(() => home.keeper(), QuotaFileError);
    home.pass(5000);
    assert.deepEqual([home.looks, readFileSync(home.path, 'utf8')], [0, 'half a fi']);
  });

  test('passes on each warning', async (context) => {
    await using home = await relay(context);
    const keeper = home.keeper();
    for (const bytes of [799, 800, 950]) {
      home.relayedBytes = bytes;
      keeper.check();
    }
    assert.deepEqual(home.told, ['80 %', '95 %']);
  });

  test('tells of what is spent with the first look after a restart', async (context) => {
    await using home = await relay(context);
    await save(home.path, { day: '2026-03-10', period: 'day', relayedBytes: 1000 });
    const keeper = home.keeper();
    assert.deepEqual(home.told, []);
    keeper.check();
    assert.deepEqual(home.told, ['spent']);
  });

  test('gives pairs their grace when it is spent, once', async (context) => {
    await using home = await relay(context);
    const keeper = home.keeper();
    home.relayedBytes = 1000;
    keeper.check();
    home.pass(59_999);
    assert.deepEqual(home.told, ['spent']);
    home.pass(1);
    assert.deepEqual(home.told, ['spent', 'grace over']);
    home.relayedBytes = 5000;
    home.pass(600_000);
    assert.deepEqual(home.told, ['spent', 'grace over']);
  });

  test('lets pairs end as they like where there is no grace', async (context) => {
    await using home = await relay(context);
    const keeper = home.keeper({ graceMs: null });
    home.relayedBytes = 1000;
    keeper.check();
    home.pass(DAY_MS / 4);
    assert.deepEqual(home.told, ['spent']);
  });

  test('ends pairs at once where their grace is nothing', async (context) => {
    await using home = await relay(context);
    const keeper = home.keeper({ graceMs: 0 });
    home.relayedBytes = 1000;
    keeper.check();
    home.pass(1);
    assert.deepEqual(home.told, ['spent', 'grace over']);
  });

  test('ends no pair any longer when the quota begins anew, and has a whole grace the next time', async (context) => {
    await using home = await relay(context);
    home.wallMs = Date.parse('2026-03-10T23:59:30Z');
    const keeper = home.keeper();
    home.relayedBytes = 1000;
    keeper.check();
    home.pass(90_000);
    assert.deepEqual([home.told, keeper.usedBytes], [['spent', 'reset'], 0]);
    home.relayedBytes = 2000;
    keeper.check();
    home.pass(59_999);
    assert.deepEqual(home.told, ['spent', 'reset', 'spent']);
    home.pass(1);
    assert.deepEqual(home.told, ['spent', 'reset', 'spent', 'grace over']);
  });

  test('says once that it can not be saved, and goes on counting and trying', async (context) => {
    await using home = new House(join(await scratch(context), 'mounted', 'quota.json'));
    await mkdir(dirname(home.path));
    const keeper = home.keeper();
    await rename(dirname(home.path), `${dirname(home.path)}-gone`);
    home.relayedBytes = 10;
    home.pass(1000);
    await until(() => home.told.length > 0);
    home.relayedBytes = 20;
    home.pass(1000);
    assert.deepEqual([home.told, keeper.usedBytes], [['ENOENT'], 20]);
    await rename(`${dirname(home.path)}-gone`, dirname(home.path));
    await until(() => {
      home.pass(1000);
      return home.savedBytes === 20;
    });
    assert.deepEqual(home.told, ['ENOENT']);
  });

  test('counts what is left and saves it when it closes, and then looks no more', async (context) => {
    await using home = await relay(context);
    const keeper = home.keeper();
    home.relayedBytes = 10;
    home.pass(1000);
    home.relayedBytes = 42;
    await keeper.close();
    assert.deepEqual([keeper.usedBytes, home.savedBytes], [42, 42]);
    const { looks } = home;
    home.relayedBytes = 999;
    home.pass(10_000);
    assert.deepEqual([home.looks, keeper.usedBytes, home.savedBytes], [looks, 42, 42]);
  });

  test('ends no pair any longer when it has closed', async (context) => {
    await using home = await relay(context);
    const keeper = home.keeper();
    home.relayedBytes = 1000;
    keeper.check();
    await keeper.close();
    home.pass(600_000);
    assert.deepEqual(home.told, ['spent']);
  });

  test('ends no pair any longer when it finds out by closing that the quota is spent', async (context) => {
    await using home = await relay(context);
    const keeper = home.keeper();
    home.relayedBytes = 1000;
    await keeper.close();
    home.pass(600_000);
    assert.deepEqual(home.told, ['spent']);
  });
});
