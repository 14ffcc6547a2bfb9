import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { adviceFor, nextChallengeType, nextOrderAt } from '../../../src/acme/retry-policy.ts';

const MINUTE_MS = 60_000;
const NOW_MS = Date.UTC(2030, 0, 1);

function failureOf(problem: string | null, retryAfterMs: number | null = null) {
  return { problem, detail: '', retryAtMs: retryAfterMs === null ? null : NOW_MS + retryAfterMs };
}

function minutes(failures: number, failure: ReturnType<typeof failureOf> | null, random = 0): number {
  return (nextOrderAt(failures, failure, NOW_MS, random) - NOW_MS) / MINUTE_MS;
}

describe('the next order after a failed one', () => {
  test('comes later each time, and never more than five in an hour', () => {
    const waits = [1, 2, 3, 4, 5, 6, 7, 100].map((failures) => minutes(failures, failureOf('connection')));
    assert.deepEqual(waits, [15, 30, 60, 120, 240, 480, 720, 720]);
    // A crash during an order counts as a failed check.
    assert.equal(minutes(1, null), 15);
  });

  test('comes sooner if the certificate authority did not answer', () => {
    for (const problem of [null, 'badNonce', 'serverInternal', 'state']) {
      const waits = [1, 2, 3, 7, 100].map((failures) => minutes(failures, failureOf(problem)));
      assert.deepEqual(waits, [1, 2, 4, 60, 60]);
    }
  });

  test('does not come before the time that the certificate authority names, up to eight days', () => {
    const hour = 60 * MINUTE_MS;
    assert.equal(minutes(1, failureOf('rateLimited', 3 * hour)), 180);
    assert.equal(minutes(1, failureOf('rateLimited', 1000)), 15);
    assert.equal(minutes(1, failureOf('rateLimited', -hour)), 15);
    assert.equal(minutes(1, failureOf('rateLimited', 365 * 24 * hour)), 8 * 24 * 60);
    assert.equal(minutes(1, failureOf(null, 2 * hour)), 120);
  });

  test('is moved by up to a quarter of the time', () => {
    assert.equal(minutes(2, failureOf('dns'), 1), 37.5);
    assert.equal(minutes(1, failureOf('rateLimited', 60 * MINUTE_MS), 0.5), 60 + 15 / 8);
  });
});

describe('the kind of check', () => {
  test('changes after a failed check if port 80 is a listener', () => {
    for (const problem of ['connection', 'unauthorized', 'dns', 'tls', 'incorrectResponse']) {
      assert.equal(nextChallengeType('tls-alpn-01', failureOf(problem), true), 'http-01');
      assert.equal(nextChallengeType('http-01', failureOf(problem), true), 'tls-alpn-01');
      assert.equal(nextChallengeType('tls-alpn-01', failureOf(problem), false), 'tls-alpn-01');
      assert.equal(nextChallengeType('http-01', failureOf(problem), false), 'tls-alpn-01');
    }
  });

  test('stays after other failures', () => {
    for (const problem of [null, 'rateLimited', 'caa'])
      assert.equal(nextChallengeType('http-01', failureOf(problem), true), 'http-01');
  });
});

test('the advice names the port that the certificate authority connects to', () => {
  assert.match(adviceFor(failureOf('connection'), 'tls-alpn-01'), /port 443/u);
  assert.match(adviceFor(failureOf('connection'), 'http-01'), /port 80\b/u);
  assert.match(adviceFor(failureOf(null), 'http-01'), /RELAY_ACME_DIRECTORY/u);
  assert.equal(adviceFor(failureOf('newProblem'), 'http-01'), "see the CA's text");
});
