import { deepEqual, match, ok, throws } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Refusal } from '../../src/config/environment.ts';
import { toPlainEndpoints } from '../../src/config/plain-endpoints.ts';
import { parseEndpoints } from '../../src/net/endpoint.ts';

/** What is said of it. */
function refusalOf(read: () => unknown): string {
  let problem = '';
  throws(read, (error) => {
    ok(error instanceof Refusal);
    match(error.accepted, /^endpoints like tcp:4003,/u);
    problem = error.problem ?? '';
    return true;
  });
  return problem;
}

const PLAIN = 'tcp:4003:interface=127.0.0.1 unix:/run/status.sock:mode=660';

describe('endpoints for operators', () => {
  test('are those of the grammar that need nothing else', () => {
    deepEqual(toPlainEndpoints(PLAIN), parseEndpoints(PLAIN));
  });

  test('have no TLS', () => {
    const problem = refusalOf(() => toPlainEndpoints(`${PLAIN} ssl:443:privateKey=/k`));
    match(problem, /no TLS here/u);
  });

  test('have addresses of their own', () => {
    const problem = refusalOf(() => toPlainEndpoints(`${PLAIN} systemd:domain=INET:index=0`));
    match(problem, /no socket of systemd is taken here/u);
  });

  test('are told what is wrong with them', () => {
    match(
      refusalOf(() => toPlainEndpoints('tcp:99999')),
      /"99999" is no port/u,
    );
  });
});
