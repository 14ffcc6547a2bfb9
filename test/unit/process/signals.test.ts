import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Signals } from '../../../src/process/signals.ts';

const NAMES = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

test('signals are queued until they can be handled, and then delivered in order', (context) => {
  const before = NAMES.map((name) => process.listeners(name));
  const signals = new Signals();
  context.after(() => {
    for (const [index, name] of NAMES.entries()) {
      for (const listener of process.listeners(name))
        if (before[index]?.includes(listener) !== true) process.off(name, listener);
    }
  });
  // The same as the arrival of a signal, which would also end the test runner.
  const send = (name: NodeJS.Signals): void => void process.emit(name);
  const handled: string[] = [];
  send('SIGHUP');
  send('SIGTERM');
  send('SIGTERM');
  signals.deliverTo((signal) => handled.push(signal));
  assert.deepEqual(handled, ['SIGHUP', 'SIGTERM', 'SIGTERM']);
  send('SIGINT');
  assert.deepEqual(handled, ['SIGHUP', 'SIGTERM', 'SIGTERM', 'SIGINT']);
  // A later handler gets new signals only.
  const later: string[] = [];
  signals.deliverTo((signal) => later.push(signal));
  send('SIGHUP');
  assert.deepEqual([handled.length, later], [4, ['SIGHUP']]);
});
