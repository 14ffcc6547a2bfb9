import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CachedCheck } from '../../src/sidecar/cached-check.ts';

/** A check with a clock that goes when told to, and answers that come when told to. */
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

  /** Asks, and answers after so many milliseconds. */
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

describe('the answer of a check', () => {
  test('is not well before there is one', () => {
    assert.equal(new Stage().check.ok, false);
  });

  test('is kept for ten seconds, be it good or bad', async () => {
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

  test('is kept for ten times what it cost', async () => {
    const stage = new Stage();
    await stage.run(true, 3000);
    stage.now += 29_999;
    await stage.check.refresh();
    assert.equal(stage.asked, 1);
    stage.now += 1;
    await stage.run(false);
    assert.equal(stage.asked, 2);
  });

  test('is for all who ask while it is looked for', async () => {
    const stage = new Stage();
    const waiting = [stage.check.refresh(), stage.check.refresh()];
    stage.now += 20_000;
    waiting.push(stage.check.refresh());
    await stage.run(true);
    await Promise.all(waiting);
    assert.equal(stage.asked, 1);
  });

  test('is the last one until the next one is there, but not for longer than a minute', async () => {
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

  test('is not well where something in this program is wrong, which is told', async () => {
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
