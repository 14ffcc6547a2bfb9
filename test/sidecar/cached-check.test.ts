import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CachedCheck } from '../../src/sidecar/cached-check.ts';

/** A check with a manual clock and manual results. */
class Stage {
  now = 5;
  asked = 0;
  readonly faults: unknown[] = [];
  readonly check: CachedCheck;
  #answer: (ok: boolean) => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;

  constructor() {
    this.check = new CachedCheck({
      run: () => {
        this.asked += 1;
        return new Promise((resolve, reject) => {
          this.#answer = resolve;
          this.#fail = reject;
        });
      },
      onInternalError: (error) => this.faults.push(error),
      clock: () => this.now,
    });
  }

  /** Starts a refresh, and completes the check after this number of milliseconds. */
  async run(ok: boolean, tookMs = 0): Promise<void> {
    const refreshed = this.check.refresh();
    this.now += tookMs;
    this.#answer(ok);
    await refreshed;
  }

  async fail(error: Error): Promise<void> {
    const refreshed = this.check.refresh();
    this.#fail(error);
    await refreshed;
  }
}

describe('the cached result of a check', () => {
  test('is negative before the first run', () => {
    assert.equal(new Stage().check.ok, false);
  });

  test('is cached for ten seconds, positive or negative', async () => {
    const stage = new Stage();
    for (const ok of [true, false, true]) {
      const { asked } = stage;
      await stage.run(ok);
      assert.equal(stage.check.ok, ok);
      stage.now += 9999;
      await stage.check.refresh();
      assert.equal(stage.asked, asked + 1);
      stage.now += 1;
    }
    await stage.run(false);
    assert.equal(stage.asked, 4);
  });

  test('is cached for ten times its duration', async () => {
    const stage = new Stage();
    await stage.run(true, 3000);
    stage.now += 29_999;
    await stage.check.refresh();
    assert.equal(stage.asked, 1);
    stage.now += 1;
    await stage.run(false);
    assert.equal(stage.asked, 2);
  });

  test('is shared by concurrent callers', async () => {
    const stage = new Stage();
    const waiting = [stage.check.refresh(), stage.check.refresh()];
    stage.now += 20_000;
    waiting.push(stage.check.refresh());
    await stage.run(true);
    await Promise.all(waiting);
    assert.equal(stage.asked, 1);
  });

  test('stays valid during the next run, for at most a minute', async () => {
    const stage = new Stage();
    await stage.run(true);
    stage.now += 10_000;
    const refreshed = stage.check.refresh();
    stage.now += 60_000;
    assert.equal(stage.check.ok, true);
    stage.now += 1;
    assert.equal(stage.check.ok, false);
    await stage.run(true);
    await refreshed;
    assert.equal(stage.check.ok, true);
  });

  test('is negative after an internal error, which is reported', async () => {
    const stage = new Stage();
    await stage.run(true);
    stage.now += 10_000;
    const error = new Error('a thread has died');
    await stage.fail(error);
    assert.equal(stage.check.ok, false);
    assert.deepEqual(stage.faults, [error]);
    stage.now += 10_000;
    await stage.run(true);
    assert.equal(stage.check.ok, true);
  });
});
