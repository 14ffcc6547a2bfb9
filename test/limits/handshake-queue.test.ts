import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { HandshakeQueue } from '../../src/limits/handshake-queue.ts';
import type { HandshakeStep } from '../../src/limits/handshake-queue.ts';

const FLOOD = '192.0.2.1';
const STRANGER = '198.51.100.1';

let now = 0;
let log: string[] = [];
let turn: (() => void) | null = null;
let queue = new HandshakeQueue(
  () => now,
  (run) => (turn = run),
);

function step(name: string, ms = 4): HandshakeStep {
  return {
    run: () => {
      now += ms;
      log.push(name);
    },
    reject: () => log.push(`${name} rejected`),
  };
}

/** Runs the next turn. False where none is due. */
function next(): boolean {
  const run = turn;
  turn = null;
  run?.();
  return run !== null;
}

describe('the handshake queue', () => {
  beforeEach(() => {
    now = 0;
    log = [];
    turn = null;
    queue = new HandshakeQueue(
      () => now,
      (run) => (turn = run),
    );
  });

  test('runs a step at once where nothing waits', () => {
    queue.enter(FLOOD, step('a'));
    assert.deepEqual(log, ['a']);
    assert.equal(queue.waiting, 0);
  });

  test('bounds the time of a turn', () => {
    for (let count = 0; count < 20; count += 1) queue.enter(FLOOD, step(String(count)));
    // 4 ms leave time for one more; 8 ms do not.
    assert.deepEqual(log, ['0', '1']);
    assert.ok(next());
    assert.deepEqual(log, ['0', '1', '2', '3']);
    while (next());
    assert.equal(log.length, 20);
    assert.deepEqual(
      log,
      log.toSorted((a, b) => Number(a) - Number(b)),
      'in the order in which they came',
    );
  });

  test('schedules no further turn when it is idle', () => {
    queue.enter(FLOOD, step('a'));
    let turns = 0;
    while (next()) turns += 1;
    assert.ok(turns <= 2);
  });

  test('lets the network that has used the least go first', () => {
    for (let count = 0; count < 100; count += 1) queue.enter(FLOOD, step('flood'));
    queue.enter(STRANGER, step('stranger'));
    next();
    assert.equal(log.indexOf('stranger'), 2, 'the first of the next turn');
  });

  test('counts the addresses of one IPv6 network as one', () => {
    for (let count = 0; count < 100; count += 1) queue.enter(`2001:db8::${count + 1}`, step('flood'));
    queue.enter('2001:db8:1::1', step('stranger'));
    next();
    assert.equal(log.indexOf('stranger'), 2);
  });

  test('rejects steps of a network that fills it, and lets others in', () => {
    for (let count = 0; count < 300; count += 1) queue.enter(FLOOD, step('flood'));
    assert.equal(queue.waiting, 256);
    assert.equal(log.filter((entry) => entry === 'flood rejected').length, 300 - 256 - 2);
    queue.enter(STRANGER, step('stranger'));
    assert.equal(queue.waiting, 256);
    next();
    assert.ok(log.includes('stranger'));
    assert.ok(!log.includes('stranger rejected'));
  });

  test('forgets use after a while', () => {
    queue.enter(FLOOD, step('flood', 1000));
    now += 600_000;
    while (next());
    queue.enter(STRANGER, step('stranger', 4));
    queue.enter(STRANGER, step('stranger', 4));
    queue.enter(STRANGER, step('stranger', 4));
    queue.enter(FLOOD, step('flood again', 4));
    next();
    assert.deepEqual(log, ['flood', 'stranger', 'stranger', 'flood again', 'stranger']);
  });

  test('takes back a step', () => {
    const gone = step('gone');
    for (const name of ['a', 'b']) queue.enter(FLOOD, step(name));
    queue.enter(FLOOD, gone);
    queue.cancel(FLOOD, gone);
    queue.cancel(FLOOD, gone);
    assert.equal(queue.waiting, 0);
    while (next());
    assert.deepEqual(log, ['a', 'b']);
  });

  test('remembers a bounded number of networks', () => {
    for (let count = 0; count < 20_000; count += 1) {
      queue.enter(`2001:db8:${(count >> 8).toString(16)}:${(count & 255).toString(16)}::1`, step('x', 0.1));
      while (next());
    }
    assert.ok(queue.networks <= 4096, String(queue.networks));
  });
});
