import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { TlsHandshakeQueue } from '../../../src/limits/tls-handshake-queue.ts';
import type { TlsHandshakeStep } from '../../../src/limits/tls-handshake-queue.ts';

const BUSY = '192.0.2.1';
const OTHER = '198.51.100.1';

let now = 0;
let log: string[] = [];
let turn: (() => void) | null = null;
let queue = new TlsHandshakeQueue(
  () => now,
  (run) => (turn = run),
);

function step(name: string, ms = 4): TlsHandshakeStep {
  return {
    run: () => {
      now += ms;
      log.push(name);
    },
    reject: () => log.push(`${name} rejected`),
  };
}

/** Lets 2 ms pass and runs the next turn. False if none is scheduled. */
function next(): boolean {
  const run = turn;
  turn = null;
  now += 2;
  run?.();
  return run !== null;
}

describe('the TLS handshake queue', () => {
  beforeEach(() => {
    now = 0;
    log = [];
    turn = null;
    queue = new TlsHandshakeQueue(
      () => now,
      (run) => (turn = run),
    );
  });

  test('runs a step at once if none is waiting', () => {
    queue.enqueue(BUSY, step('a'));
    assert.deepEqual(log, ['a']);
    assert.equal(turn, null);
  });

  test('gives handshakes half of the time', () => {
    for (let count = 0; count < 100; count += 1) queue.enqueue(BUSY, step(String(count)));
    // After 4 ms there is time for one more; after 8 ms there is none.
    assert.deepEqual(log, ['0', '1']);
    while (next());
    assert.equal(log.length, 100);
    assert.deepEqual(
      log,
      log.toSorted((a, b) => Number(a) - Number(b)),
      'in the order of their requests',
    );
    assert.ok(now > 780 && now < 820, `400 ms of handshakes took ${now} ms`);
  });

  test('never runs for long in one turn', () => {
    for (let count = 0; count < 100; count += 1) queue.enqueue(BUSY, step(String(count), 1));
    let ran = log.length;
    now += 1000;
    while (next()) {
      assert.ok(log.length - ran <= 6, `${log.length - ran} steps of 1 ms in one turn`);
      ran = log.length;
    }
  });

  test('schedules no turn when it is idle', () => {
    queue.enqueue(BUSY, step('a'));
    assert.equal(next(), false);
  });

  test('runs steps of the network with the least usage first', () => {
    for (let count = 0; count < 100; count += 1) queue.enqueue(BUSY, step('busy'));
    queue.enqueue(OTHER, step('other'));
    while (log.length < 3) next();
    assert.equal(log.indexOf('other'), 2);
  });

  test('counts the addresses of one IPv6 network as one', () => {
    for (let count = 0; count < 100; count += 1) queue.enqueue(`2001:db8::${count + 1}`, step('busy'));
    queue.enqueue('2001:db8:1::1', step('other'));
    while (log.length < 3) next();
    assert.equal(log.indexOf('other'), 2);
  });

  test('rejects steps of a network that fills the queue, and accepts steps of other networks', () => {
    for (let count = 0; count < 300; count += 1) queue.enqueue(BUSY, step('busy'));
    // Two have run, and 256 are waiting.
    assert.equal(log.filter((entry) => entry === 'busy rejected').length, 300 - 256 - 2);
    queue.enqueue(OTHER, step('other'));
    assert.equal(log.filter((entry) => entry === 'busy rejected').length, 300 - 256 - 2 + 1);
    while (!log.includes('other')) assert.ok(next());
    assert.equal(log.filter((entry) => entry === 'busy').length, 2);
    assert.ok(!log.includes('other rejected'));
  });

  test('forgets usage after some time', () => {
    queue.enqueue(BUSY, step('busy', 1000));
    now += 600_000;
    for (let count = 0; count < 3; count += 1) queue.enqueue(OTHER, step('other'));
    queue.enqueue(BUSY, step('busy again'));
    while (next());
    assert.deepEqual(log, ['busy', 'other', 'other', 'busy again', 'other']);
  });

  test('removes a cancelled step', () => {
    const cancelled = step('cancelled');
    for (const name of ['a', 'b']) queue.enqueue(BUSY, step(name));
    queue.enqueue(BUSY, cancelled);
    queue.cancel(BUSY, cancelled);
    queue.cancel(BUSY, cancelled);
    while (next());
    assert.deepEqual(log, ['a', 'b']);
    // Nothing is waiting, so the next step runs at once.
    now += 1000;
    queue.enqueue(BUSY, step('c'));
    assert.deepEqual(log, ['a', 'b', 'c']);
  });

  for (const { others, expected } of [
    { others: 4095, expected: ['other', 'busy'] },
    { others: 4096, expected: ['busy', 'other'] },
  ]) {
    const verb = expected[0] === 'busy' ? 'forgets' : 'remembers';
    test(`${verb} the usage of a network after ${others} others`, () => {
      queue.enqueue(BUSY, step('busy', 1000));
      for (let count = 1; count <= others; count += 1) {
        const network = `2001:db8:${(count >> 8).toString(16)}:${(count & 255).toString(16)}::1`;
        queue.enqueue(network, step('other', count === others ? 100 : 0.1));
        if (count < others) while (next());
      }
      log = [];
      queue.enqueue(BUSY, step('busy'));
      queue.enqueue(OTHER, step('other'));
      while (next());
      assert.deepEqual(log, expected);
    });
  }
});
