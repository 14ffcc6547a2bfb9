import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import type { Log } from '../../../src/process/logging.ts';
import { RejectionLog } from '../../../src/relay/rejection-log.ts';
import type { ReachedLimit } from '../../../src/relay/rejection-log.ts';

const MINUTE_MS = 60_000;

const FULL: ReachedLimit = {
  problem: 'connection limit reached',
  variable: 'RELAY_MAX_CONNECTIONS',
  value: 5194,
};

/** A rejection log, and its lines as level, fields and message. */
class LogFixture {
  readonly lines: unknown[][] = [];
  readonly log: RejectionLog;

  constructor(limit: ReachedLimit = FULL) {
    const write =
      (level: string): Log['info'] =>
      (fields, message) =>
        this.lines.push([level, fields, message]);
    const log = {
      debug: write('debug'),
      info: write('info'),
      warn: write('warn'),
      error: write('error'),
      fatal: write('fatal'),
    };
    this.log = new RejectionLog(log, () => limit);
  }

  /** The counts of the lines since the last call. */
  counts(): unknown[] {
    return this.lines
      .splice(0)
      .map(([, fields]) => (fields instanceof Object && 'count' in fields ? fields.count : null));
  }

  reject(count: number): void {
    for (let index = 0; index < count; index += 1) this.log.count('connections');
  }
}

describe('the log of rejected clients', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
  afterEach(() => mock.timers.reset());

  test('has the reason, the count, and the limit with its variable', () => {
    const fixture = new LogFixture();
    fixture.reject(1);
    assert.deepEqual(fixture.lines, [
      [
        'warn',
        {
          event: 'clients_rejected',
          reason: 'connections',
          count: 1,
          variable: 'RELAY_MAX_CONNECTIONS',
          limit: 5194,
        },
        'clients rejected: connection limit reached',
      ],
    ]);
  });

  test('has one line a minute, and the rest of a burst at its end', () => {
    const fixture = new LogFixture();
    fixture.reject(1000);
    assert.deepEqual(fixture.counts(), [1]);
    mock.timers.tick(MINUTE_MS - 1);
    assert.deepEqual(fixture.counts(), []);
    mock.timers.tick(1);
    assert.deepEqual(fixture.counts(), [999]);
    fixture.reject(7);
    mock.timers.tick(MINUTE_MS);
    assert.deepEqual(fixture.counts(), [7]);
    mock.timers.tick(MINUTE_MS);
    assert.deepEqual(fixture.counts(), []);
    // A quiet minute is over, so the next client is logged at once.
    fixture.reject(2);
    assert.deepEqual(fixture.counts(), [1]);
  });

  test('limits each reason by itself', () => {
    const fixture = new LogFixture();
    fixture.reject(2);
    fixture.log.count('waiting');
    assert.deepEqual(fixture.counts(), [1, 1]);
    mock.timers.tick(MINUTE_MS);
    assert.deepEqual(fixture.counts(), [1]);
  });

  test('has the last count when the relay stops, and nothing after that', () => {
    const fixture = new LogFixture();
    fixture.reject(5);
    fixture.log.count('waiting');
    fixture.log.close();
    assert.deepEqual(fixture.counts(), [1, 1, 4]);
    mock.timers.tick(2 * MINUTE_MS);
    assert.deepEqual(fixture.counts(), []);
  });

  test('is no warning if the relay stops', () => {
    const fixture = new LogFixture({ problem: 'the relay is stopping', variable: null, value: null });
    fixture.log.count('shutdown');
    assert.deepEqual(fixture.lines, [
      [
        'info',
        { event: 'clients_rejected', reason: 'shutdown', count: 1 },
        'clients rejected: the relay is stopping',
      ],
    ]);
  });
});
