import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LogThrottle, errorDetails } from '../src/process/logging.ts';

describe('a log throttle', () => {
  test('logs the first event at once, and then once per interval with the number of events', () => {
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

  test('logs at once after a pause, without events logged before', () => {
    let now = 0;
    const said: number[] = [];
    const seldom = new LogThrottle(1000, () => now);
    seldom.log((times) => said.push(times));
    now = 50_000;
    seldom.log((times) => said.push(times));
    assert.deepEqual(said, [1, 1]);
  });

  test('measures the interval from the last log line', () => {
    let now = 0;
    const said: number[] = [];
    const seldom = new LogThrottle(1000, () => now);
    for (const at of [0, 1900, 2100, 2899, 2900]) {
      now = at;
      seldom.log((times) => said.push(times));
    }
    assert.deepEqual(said, [1, 1, 3]);
  });

  test('counts an event caused by logging for the next log line', () => {
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

describe('the logged details of an error', () => {
  test('are its kind and stack, but not its message', () => {
    const error = errorDetails(Object.assign(new RangeError('please relay'), { code: 'ENOENT' }));
    assert.deepEqual([error.name, error.code], ['RangeError', 'ENOENT']);
    assert.match(error.at[0] ?? '', /^at .*logging\.test\.ts:\d+:\d+\)?$/u);
    assert.ok(error.at.length <= 8);
    assert.doesNotMatch(JSON.stringify(error), /please relay/u);
  });

  test('have nothing of a message that looks like stack frames', () => {
    const error = errorDetails(new Error('wrong:\n    at please relay SECRET\n    at another'));
    assert.doesNotMatch(JSON.stringify(error), /SECRET|another/u);
    assert.match(error.at[0] ?? '', /logging\.test\.ts/u);
  });

  test('are the kind alone if there is nothing else', () => {
    const withoutStack = new Error('secret');
    delete withoutStack.stack;
    assert.deepEqual(errorDetails(withoutStack), { name: 'Error', code: '', at: [] });
    assert.deepEqual(errorDetails(Object.assign(withoutStack, { code: 5 })).code, '');
    assert.deepEqual(errorDetails('secret'), { name: 'string', code: '', at: [] });
    assert.deepEqual(errorDetails(null), { name: 'object', code: '', at: [] });
  });
});
