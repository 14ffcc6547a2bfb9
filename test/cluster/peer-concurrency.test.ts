import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { PeerConcurrency } from '../../src/cluster/router.ts';

/** Calls that end when the test says so. */
class ControlledConnects {
  readonly started: PromiseWithResolvers<string>[] = [];
  readonly start = (): Promise<string> => {
    const call = Promise.withResolvers<string>();
    this.started.push(call);
    return call.promise;
  };
}

describe('calls in lanes', () => {
  test('are made a few at a time to one relay, and others to others', async () => {
    const [lanes, calls] = [new PeerConcurrency(2, () => false), new ControlledConnects()];
    const results = ['one', 'one', 'one', 'one', 'two'].map((name) => lanes.run(name, calls.start));
    await setImmediate();
    assert.equal(calls.started.length, 3);
    calls.started[0]?.reject(new Error('no'));
    await assert.rejects(results[0] ?? Promise.resolve());
    calls.started[1]?.resolve('yes');
    assert.equal(await results[1], 'yes');
    await setImmediate();
    assert.equal(calls.started.length, 5);
    for (const call of calls.started) call.resolve('done');
    assert.deepEqual(await Promise.all(results.slice(2)), ['done', 'done', 'done']);
    const last = lanes.run('one', calls.start);
    assert.equal(calls.started.length, 6);
    calls.started[5]?.resolve('last');
    assert.equal(await last, 'last');
  });

  test('fail together where there is no hope, and then are made again', async () => {
    const [lanes, calls] = [new PeerConcurrency(1, () => true), new ControlledConnects()];
    const results = [1, 2, 3].map(() => lanes.run('one', calls.start));
    calls.started[0]?.reject(new Error('gone'));
    for (const result of results) await assert.rejects(result, /gone/u);
    assert.equal(calls.started.length, 1);
    const again = lanes.run('one', calls.start);
    calls.started[1]?.resolve('back');
    assert.equal(await again, 'back');
  });
});
