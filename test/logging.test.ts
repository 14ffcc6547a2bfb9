import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Seldom, faultOf } from '../src/logging.ts';

describe('what happens too often', () => {
  test('is told at once, and then once in each interval, with how many times it was', () => {
    let now = 5;
    const said: [now: number, times: number][] = [];
    const seldom = new Seldom(1000, () => now);
    for (const at of [5, 6, 1004, 1005, 1006, 2005, 2006]) {
      now = at;
      seldom.happened((times) => said.push([at, times]));
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
    const seldom = new Seldom(1000, () => now);
    seldom.happened((times) => said.push(times));
    now = 50_000;
    seldom.happened((times) => said.push(times));
    assert.deepEqual(said, [1, 1]);
  });

  test('is counted from its last telling, not from when it was due', () => {
    let now = 0;
    const said: number[] = [];
    const seldom = new Seldom(1000, () => now);
    for (const at of [0, 1900, 2100, 2899, 2900]) {
      now = at;
      seldom.happened((times) => said.push(times));
    }
    assert.deepEqual(said, [1, 1, 3]);
  });

  test('is not told again by telling it, but counted for the next time, where that makes it happen', () => {
    let now = 0;
    const said: number[] = [];
    const seldom = new Seldom(1000, () => now);
    const tell = (times: number): void => {
      said.push(times);
      seldom.happened(tell);
    };
    seldom.happened(tell);
    assert.deepEqual(said, [1]);
    now = 1000;
    seldom.happened(tell);
    assert.deepEqual(said, [1, 2]);
  });
});

describe('what is logged of an error', () => {
  test('is its kind and where it happened, but not its message', () => {
    const fault = faultOf(Object.assign(new RangeError('please relay'), { code: 'ENOENT' }));
    assert.deepEqual([fault.name, fault.code], ['RangeError', 'ENOENT']);
    assert.match(fault.at[0] ?? '', /^at .*logging\.test\.ts:\d+:\d+\)?$/u);
    assert.ok(fault.at.length <= 8);
    assert.doesNotMatch(JSON.stringify(fault), /please relay/u);
  });

  test('has nothing of a message that looks like places', () => {
    const fault = faultOf(new Error('wrong:\n    at please relay SECRET\n    at another'));
    assert.doesNotMatch(JSON.stringify(fault), /SECRET|another/u);
    assert.match(fault.at[0] ?? '', /logging\.test\.ts/u);
  });

  test('is the kind alone where there is no more', () => {
    const withoutStack = new Error('secret');
    delete withoutStack.stack;
    assert.deepEqual(faultOf(withoutStack), { name: 'Error', code: '', at: [] });
    assert.deepEqual(faultOf(Object.assign(withoutStack, { code: 5 })).code, '');
    assert.deepEqual(faultOf('secret'), { name: 'string', code: '', at: [] });
    assert.deepEqual(faultOf(null), { name: 'object', code: '', at: [] });
  });
});
