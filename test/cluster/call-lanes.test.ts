import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { CallLanes } from '../../src/cluster/call-lanes.ts';

/** Calls that end when the test says so. */
class Calls {
  readonly begun: PromiseWithResolvers<string>[] = [];
  readonly make = (): Promise<string> => {
    const call = Promise.withResolvers<string>();
    this.begun.push(call);
    return call.promise;
  };
}

describe('calls in lanes', () => {
  test('are made a few at a time to one relay, and others to others', async () => {
    const [lanes, calls] = [new CallLanes(2, () => false), new Calls()];
    const results = ['one', 'one', 'one', 'one', 'two'].map((name) => lanes.run(name, calls.make));
    await setImmediate();
    assert.equal(calls.begun.length, 3);
    calls.begun[0]?.reject(new Error('no'));
    await assert.rejects(results[0] ?? Promise.resolve());
    calls.begun[1]?.resolve('yes');
    assert.equal(await results[1], 'yes');
    await setImmediate();
    assert.equal(calls.begun.length, 5);
    for (const call of calls.begun) call.resolve('done');
    assert.deepEqual(await Promise.all(results.slice(2)), ['done', 'done', 'done']);
    const last = lanes.run('one', calls.make);
    assert.equal(calls.begun.length, 6);
    calls.begun[5]?.resolve('last');
    assert.equal(await last, 'last');
  });

  test('fail together where there is no hope, and then are made again', async () => {
    const [lanes, calls] = [new CallLanes(1, () => true), new Calls()];
    const results = [1, 2, 3].map(() => lanes.run('one', calls.make));
    calls.begun[0]?.reject(new Error('gone'));
    for (const result of results) await assert.rejects(result, /gone/u);
    assert.equal(calls.begun.length, 1);
    const again = lanes.run('one', calls.make);
    calls.begun[1]?.resolve('back');
    assert.equal(await again, 'back');
  });
});
