import { deepEqual, match, ok, throws } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { InvalidValue } from '../../src/config/environment.ts';
import { toInternalEndpoints } from '../../src/config/values.ts';
import { parseEndpoints } from '../../src/config/endpoint.ts';

/** The problem of an invalid endpoint. */
function refusalOf(read: () => unknown): string {
  let problem = '';
  throws(read, (error) => {
    ok(error instanceof InvalidValue);
    match(error.accepted, /^endpoints like tcp:4003,/u);
    problem = error.problem ?? '';
    return true;
  });
  return problem;
}

const PLAIN = 'tcp:4003:interface=127.0.0.1 unix:/run/status.sock:mode=660';

describe('endpoints for operators', () => {
  test('accept plain TCP and Unix endpoints', () => {
    deepEqual(toInternalEndpoints(PLAIN), parseEndpoints(PLAIN));
  });

  test('reject TLS', () => {
    const problem = refusalOf(() => toInternalEndpoints(`${PLAIN} ssl:443:privateKey=/k`));
    match(problem, /TLS is not supported here/u);
  });

  test('reject sockets from systemd', () => {
    const problem = refusalOf(() => toInternalEndpoints(`${PLAIN} systemd:domain=INET:index=0`));
    match(problem, /sockets from systemd are not supported here/u);
  });

  test('report grammar errors', () => {
    match(
      refusalOf(() => toInternalEndpoints('tcp:99999')),
      /"99999" is not a port/u,
    );
  });
});
