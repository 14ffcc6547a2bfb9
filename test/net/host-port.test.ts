import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isHost, parseHostPort } from '../../src/config/endpoint.ts';

describe('parsing a host and a port', () => {
  for (const [text, host, port] of [
    ['10.0.0.7:4004', '10.0.0.7', 4004],
    ['[fd00::7]:65535', 'fd00::7', 65_535],
    ['[::ffff:10.0.0.7]:1', '::ffff:10.0.0.7', 1],
    ['relay-1.relays.svc.cluster.local:4005', 'relay-1.relays.svc.cluster.local', 4005],
    ['relay_2:4004', 'relay_2', 4004],
    ['R2D2.example.org.:4004', 'R2D2.example.org.', 4004],
    ['1password.example:1', '1password.example', 1],
    [`${'a'.repeat(253)}:1`, 'a'.repeat(253), 1],
  ] as const) {
    test(`accepts ${text}`, () => {
      assert.deepEqual(parseHostPort(text), { host, port });
      assert.equal(isHost(host), true);
    });
  }

  for (const text of [
    '',
    'relay',
    'relay:',
    ':4004',
    'relay:0',
    'relay:65536',
    'relay:-1',
    'relay:4004x',
    'relay:4004:4004',
    'fd00::7:4004',
    '[fd00::7]',
    '[relay]:4004',
    '[10.0.0.7]:4004',
    '[fe80::1%eth0]:4004',
    '10.0.0.256:4004',
    '10.0.0.07:4004',
    // The C library accepts these as IPv4 addresses.
    '10.7:4004',
    '2130706433:4004',
    '0x7f000001:4004',
    '127.0.0.0x1:4004',
    '0177.0.0.1:4004',
    'relay.1:4004',
    '-relay:4004',
    'relay-:4004',
    'relay..example:4004',
    'relay example:4004',
    'relay/x:4004',
    'user@relay:4004',
    'relé:4004',
    `${'a'.repeat(254)}:1`,
  ]) {
    test(`rejects ${JSON.stringify(text)}`, () => {
      assert.equal(parseHostPort(text), null);
    });
  }

  test('rejects long invalid text quickly', () => {
    const startedAt = performance.now();
    for (const text of ['a-'.repeat(50_000), 'a.'.repeat(50_000), `${'a'.repeat(100_000)}!`])
      assert.equal(parseHostPort(`${text}:1`), null);
    assert.ok(performance.now() - startedAt < 500);
  });
});
