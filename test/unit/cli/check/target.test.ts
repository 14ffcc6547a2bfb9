import { deepEqual, equal, throws } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { UsageError } from '../../../../src/cli/arguments.ts';
import { formatTarget, parseTarget } from '../../../../src/cli/check/target.ts';

describe('parseTarget', () => {
  for (const [text, scheme, host, port, path, formatted = text] of [
    ['tcp:relay.example.org:4001', 'tcp', 'relay.example.org', 4001, '/'],
    ['relay.example.org:4001', 'tcp', 'relay.example.org', 4001, '/', 'tcp:relay.example.org:4001'],
    ['tcp://localhost:4001', 'tcp', 'localhost', 4001, '/', 'tcp:localhost:4001'],
    ['TCP:a_b:1', 'tcp', 'a_b', 1, '/', 'tcp:a_b:1'],
    ['tcp:[::1]:4001', 'tcp', '::1', 4001, '/'],
    ['[fe80::1%eth0]:4001', 'tcp', 'fe80::1%eth0', 4001, '/', 'tcp:[fe80::1%eth0]:4001'],
    ['ssl:192.0.2.1:443', 'ssl', '192.0.2.1', 443, '/'],
    ['tcp:bücher.example:1', 'tcp', 'xn--bcher-kva.example', 1, '/', 'tcp:xn--bcher-kva.example:1'],
    ['ws://localhost', 'ws', 'localhost', 80, '/', 'ws://localhost/'],
    ['ws://localhost:4002/relay?a=b', 'ws', 'localhost', 4002, '/relay?a=b'],
    ['WSS://Relay.Example.org', 'wss', 'relay.example.org', 443, '/', 'wss://relay.example.org/'],
    ['wss://[2001:db8::1]:8443/', 'wss', '2001:db8::1', 8443, '/'],
  ] as const) {
    test(`understands ${text}`, () => {
      const target = parseTarget(text);
      deepEqual(target, { scheme, host, port, path });
      equal(formatTarget(target), formatted);
      deepEqual(parseTarget(formatted), target);
    });
  }

  const GRAMMAR = /use tcp:HOST:PORT, HOST:PORT, ssl:HOST:PORT, ws:\/\//u;
  for (const [text, message] of [
    ['', GRAMMAR],
    ['4001', /it has no host; use tcp:HOST:4001$/u],
    ['tcp:4001', /it has no host; use tcp:HOST:4001$/u],
    ['ssl:443', /it has no host; use ssl:HOST:443$/u],
    ['relay.example.org', /it has no port; use tcp:relay\.example\.org:4001$/u],
    ['ssl:relay.example.org', /it has no port; use ssl:relay\.example\.org:443$/u],
    ['::1', /it has no port; use tcp:\[::1\]:4001$/u],
    ['http://localhost:4002/x', /use ws:\/\/localhost:4002\/x$/u],
    ['https://localhost', /use wss:\/\/localhost$/u],
    ['ws://', /it is not a URL/u],
    ['ws://fe80::1/', /it is not a URL/u],
    ['tcp:256.1.1.1:1', /its host is not a name or an IP address/u],
    ['tcp:[localhost]:1', /its host is not a name or an IP address/u],
    ['tcp:localhost:0', /its port is not between 1 and 65535/u],
    ['tcp:localhost:65536', /its port is not between 1 and 65535/u],
    ['tcp:a b:1', GRAMMAR],
    ['tcp:4001:interface=127.0.0.1', GRAMMAR],
    ['ssl:443:privateKey=/key.pem:certKey=/cert.pem', GRAMMAR],
    ['unix:/run/relay.sock', GRAMMAR],
  ] as const) {
    test(`rejects ${JSON.stringify(text)}`, () => {
      throws(
        () => parseTarget(text),
        (error) => error instanceof UsageError && message.test(error.message),
      );
    });
  }

  for (const text of ['wss://user:secret@localhost/', 'https://secret@localhost/']) {
    test('does not show a password', () => {
      throws(
        () => parseTarget(text),
        (error) => error instanceof UsageError && !error.message.includes('secret'),
      );
    });
  }
});
