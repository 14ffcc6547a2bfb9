import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Warnings } from '../../../src/relay/warnings.ts';

describe('the current warnings', () => {
  test('begin with those of the configuration, also several of one event', () => {
    const permanent = [
      { event: 'unknown_variable', message: 'RELAY_QUTOA is unknown' },
      { event: 'unknown_variable', message: 'RELAY_LISTEM is unknown' },
    ];
    const warnings = new Warnings(() => 0, permanent);
    warnings.raise('coordinator_down', 'the coordinator is down');
    assert.deepEqual(warnings.current, [
      ...permanent,
      { event: 'coordinator_down', message: 'the coordinator is down' },
    ]);
  });

  test('have each problem once, with its last message, until it is cleared', () => {
    const warnings = new Warnings(() => 0);
    warnings.raise('failed', 'first');
    warnings.raise('failed', 'second');
    warnings.raise('failed', 'of another', { subject: 'tcp 443' });
    assert.deepEqual(
      warnings.current.map(({ message }) => message),
      ['second', 'of another'],
    );
    warnings.clear('failed');
    warnings.clear('failed');
    assert.deepEqual(
      warnings.current.map(({ message }) => message),
      ['of another'],
    );
  });

  test('no longer have one whose time has passed', () => {
    let now = 5;
    const warnings = new Warnings(() => now);
    warnings.raise('memory_shortage', 'no memory', { forMs: 10 });
    now = 14;
    assert.equal(warnings.current.length, 1);
    now = 15;
    assert.equal(warnings.current.length, 0);
    warnings.raise('memory_shortage', 'no memory', { forMs: 10 });
    now = 24;
    assert.equal(warnings.current.length, 1);
  });

  test('can be what is logged at the level of warnings and above', () => {
    const warnings = new Warnings(() => 0);
    const lines: string[] = [];
    const write = ({ event }: { readonly event: string }): void => void lines.push(event);
    const log = warnings.raising({ debug: write, info: write, warn: write, error: write, fatal: write });
    log.info({ event: 'started' }, 'started');
    log.warn({ event: 'memory_shortage' }, 'it is slow');
    log.error({ event: 'accept_failed' }, 'it is broken');
    assert.deepEqual(lines, ['started', 'memory_shortage', 'accept_failed']);
    assert.deepEqual(warnings.current, [
      { event: 'memory_shortage', message: 'it is slow' },
      { event: 'accept_failed', message: 'it is broken' },
    ]);
  });
});
