import { equal, match, ok } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { printable, replyFailure } from '../../../../src/cli/check/failure.ts';
import { SIDE_A, handshake, newToken } from '../../../support/bytes.ts';

describe('the text of a server', () => {
  test('is shown without control characters, and shortened', () => {
    equal(printable('\x1b[2Jüber\x07\nsecond line'), '.[2J.ber.');
    equal(printable('x'.repeat(60)), 'x'.repeat(60));
    equal(printable('x'.repeat(61)), `${'x'.repeat(60)}…`);
    equal(printable(''), '');
  });

  test('is not shown if it contains the token', () => {
    const token = newToken();
    for (const text of [handshake(token, SIDE_A), `bad line: ${token}`, `x\n${token}`]) {
      const { code, message } = replyFailure(Buffer.from(text), token);
      equal(code, 'not_a_relay');
      ok(!message.includes(token.slice(0, 20)), message);
    }
  });
});

describe('the failure for a reply', () => {
  for (const [reply, code, message] of [
    ['busy\n', 'busy', /the relay is full/u],
    ['busy', 'busy', /the relay is full/u],
    ['over quota\n', 'over_quota', /RELAY_QUOTA/u],
    ['shutting down\n', 'shutting_down', /the relay is stopping/u],
    ['impatient\n', 'impatient', /adds bytes/u],
    ['bad handshake\n', 'bad_handshake', /PROXY header \(RELAY_TRUSTED_PROXIES\)/u],
    ['', 'closed', /closed the connection without an answer/u],
    ['HTTP/1.1 400 Bad Request\r\n\r\n', 'http', /"HTTP\/1\.1 400 Bad Request"; it is an HTTP server/u],
    ['\x15\x03\x01\x00\x02\x02\x16', 'tls', /speaks only TLS/u],
    ['{"type": "welcome", "welcome": {}}', 'mailbox', /mailbox server/u],
    ['SSH-2.0-OpenSSH_10.0\r\n', 'not_a_relay', /"SSH-2\.0-OpenSSH_10\.0"; it is not a transit relay/u],
    ['okay\n', 'not_a_relay', /"okay"/u],
  ] as const) {
    test(`${JSON.stringify(reply)} is ${code}`, () => {
      const failure = replyFailure(Buffer.from(reply, 'latin1'), newToken());
      equal(failure.code, code);
      match(failure.message, message);
    });
  }
});
