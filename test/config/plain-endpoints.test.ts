import { deepEqual, match, ok, throws } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Refusal } from '../../src/config/environment.ts';
import { toOwnEndpoints, toPlainEndpoints } from '../../src/config/plain-endpoints.ts';
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
const INHERITED = 'systemd:domain=INET:index=0';

describe('endpoints for operators', () => {
  for (const [name, read] of Object.entries({ toPlainEndpoints, toOwnEndpoints })) {
    test(`${name}: are those of the relay's grammar`, () => {
      deepEqual(read(PLAIN), parseEndpoints(PLAIN));
    });

    test(`${name}: have no TLS`, () => {
      match(
        refusalOf(() => read(`${PLAIN} ssl:443:privateKey=/k`)),
        /no TLS here/u,
      );
      match(
        refusalOf(() => read(`${INHERITED}:privateKey=/k`)),
        /no TLS here/u,
      );
    });

    test(`${name}: are told what is wrong with them`, () => {
      match(
        refusalOf(() => read('tcp:99999')),
        /"99999" is no port/u,
      );
    });
  }

  test('may be of systemd where it passes sockets, and only there', () => {
    deepEqual(toPlainEndpoints(INHERITED), parseEndpoints(INHERITED));
    match(
      refusalOf(() => toOwnEndpoints(`${PLAIN} ${INHERITED}`)),
      /systemd passes no sockets here/u,
    );
  });
});
