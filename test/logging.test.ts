import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LogThrottle, errorDetails } from '../src/process/logging.ts';

describe('what happens too often', () => {
  test('is told at once, and then once in each interval, with how many times it was', () => {
    let now = 5;
    const said: [now: number, times: number][] = [];
    const seldom = new LogThrottle(1000, () => now);
    for (const at of [5, 6, 1004, 1005, 1006, 2005, 2006]) {
      now = at;
      seldom.log((times) => said.push([at, times]));
    }
    assert.deepEqual(said, [
      [5, 1],
      [1005, 3],
      [2005, 2],
    ]);
  });

  test('is told at once again after a silence, and without what was told before', () => {
    let now = 0;
    const said: number[] = [];
    const seldom = new LogThrottle(1000, () => now);
    seldom.log((times) => said.push(times));
    now = 50_000;
    seldom.log((times) => said.push(times));
    assert.deepEqual(said, [1, 1]);
  });

  test('is counted from its last telling, not from when it was due', () => {
    let now = 0;
    const said: number[] = [];
    const seldom = new LogThrottle(1000, () => now);
    for (const at of [0, 1900, 2100, 2899, 2900]) {
      now = at;
      seldom.log((times) => said.push(times));
    }
    assert.deepEqual(said, [1, 1, 3]);
  });

  test('is not told again by telling it, but counted for the next time, where that makes it happen', () => {
    let now = 0;
    const said: number[] = [];
    const seldom = new LogThrottle(1000, () => now);
    const tell = (times: number): void => {
      said.push(times);
      seldom.log(tell);
    };
    seldom.log(tell);
    assert.deepEqual(said, [1]);
    now = 1000;
    seldom.log(tell);
    assert.deepEqual(said, [1, 2]);
  });
});

describe('what is logged of an error', () => {
  test('is its kind and where it happened, but not its message', () => {
    const error = errorDetails(Object.assign(new RangeError('please relay'), { code: 'ENOENT' }));
    assert.deepEqual([error.name, error.code], ['RangeError', 'ENOENT']);
    assert.match(error.at[0] ?? '', /^at .*logging\.test\.ts:\d+:\d+\)?$/u);
    assert.ok(error.at.length <= 8);
    assert.doesNotMatch(JSON.stringify(error), /please relay/u);
  });

  test('has nothing of a message that looks like places', () => {
    const error = errorDetails(new Error('wrong:\n    at please relay SECRET\n    at another'));
    assert.doesNotMatch(JSON.stringify(error), /SECRET|another/u);
    assert.match(error.at[0] ?? '', /logging\.test\.ts/u);
  });

  test('is the kind alone where there is no more', () => {
    const withoutStack = new Error('secret');
    delete withoutStack.stack;
    assert.deepEqual(errorDetails(withoutStack), { name: 'Error', code: '', at: [] });
    assert.deepEqual(errorDetails(Object.assign(withoutStack, { code: 5 })).code, '');
    assert.deepEqual(errorDetails('secret'), { name: 'string', code: '', at: [] });
    assert.deepEqual(errorDetails(null), { name: 'object', code: '', at: [] });
  });
});
