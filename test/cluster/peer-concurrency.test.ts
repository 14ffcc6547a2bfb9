import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { PeerConcurrency } from '../../src/cluster/router.ts';

/** Connection attempts that the test ends. */
class ControlledConnects {
  readonly started: PromiseWithResolvers<string>[] = [];
  readonly start = (): Promise<string> => {
    const connect = Promise.withResolvers<string>();
    this.started.push(connect);
    return connect.promise;
  };
}

describe('concurrent connection attempts', () => {
  test('are limited for each relay separately', async () => {
    const [concurrency, connects] = [new PeerConcurrency(2, () => false), new ControlledConnects()];
    const results = ['one', 'one', 'one', 'one', 'two'].map((name) => concurrency.run(name, connects.start));
    await setImmediate();
    assert.equal(connects.started.length, 3);
    connects.started[0]?.reject(new Error('no'));
    await assert.rejects(results[0] ?? Promise.resolve());
    connects.started[1]?.resolve('yes');
    assert.equal(await results[1], 'yes');
    await setImmediate();
    assert.equal(connects.started.length, 5);
    for (const connect of connects.started) connect.resolve('done');
    assert.deepEqual(await Promise.all(results.slice(2)), ['done', 'done', 'done']);
    const last = concurrency.run('one', connects.start);
    assert.equal(connects.started.length, 6);
    connects.started[5]?.resolve('last');
    assert.equal(await last, 'last');
  });

  test('fail together after a hopeless failure; later attempts are made again', async () => {
    const [concurrency, connects] = [new PeerConcurrency(1, () => true), new ControlledConnects()];
    const results = [1, 2, 3].map(() => concurrency.run('one', connects.start));
    connects.started[0]?.reject(new Error('gone'));
    for (const result of results) await assert.rejects(result, /gone/u);
    assert.equal(connects.started.length, 1);
    const again = concurrency.run('one', connects.start);
    connects.started[1]?.resolve('back');
    assert.equal(await again, 'back');
  });
});
