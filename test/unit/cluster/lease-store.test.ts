import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LeaseKeys, decodeOwner, encodeOwner } from '../../../src/cluster/lease-store.ts';
import { tokenOf } from '../../support/lease-fixture.ts';

describe('the key of a token', () => {
  const keys = new LeaseKeys('a secret of the group');

  test('depends on the secret and the token only', () => {
    const token = tokenOf(1);
    const key = keys.forToken(token);
    assert.equal(new LeaseKeys('a secret of the group').forToken(token), key);
    assert.notEqual(keys.forToken(tokenOf(2)), key);
    assert.notEqual(new LeaseKeys('another secret').forToken(token), key);
  });

  test('does not change between releases, because relays of two releases may be in one cluster', () => {
    // Computed with Python's hmac.
    assert.equal(keys.forToken(tokenOf(1)), 'transit-relay:FW8zF6hh6iQfzwcBFYe1SQ');
  });

  test('is a prefix and 128 bits, and contains no part of the token', () => {
    const token = tokenOf(0xabcdef);
    const key = keys.forToken(token);
    assert.match(key, /^transit-relay:[\w-]{22}$/u);
    for (let at = 0; at + 6 <= token.length; at += 6) assert.ok(!key.includes(token.slice(at, at + 6)));
  });
});

describe('the value of a key', () => {
  for (const address of [
    '10.0.0.7:4005',
    '[fd00::1]:4005',
    'relay-0.relays.example.svc:4005',
    `${'a'.repeat(253)}:65535`,
  ]) {
    test(`contains the owner, for address ${address.slice(0, 40)}`, () => {
      const owner = { id: 'aZ09_-aZ09_-', address };
      assert.deepEqual(decodeOwner(encodeOwner(owner)), owner);
    });
  }

  for (const value of [
    '',
    '1',
    '1 abcdefgh',
    '1 abcdefgh ',
    '2 abcdefgh 10.0.0.7:4005',
    '1 abcdefg 10.0.0.7:4005',
    '1 abcdefgh 10.0.0.7:4005\n',
    '1 abcdefgh 10.0.0.7:4005 x',
    ' 1 abcdefgh 10.0.0.7:4005',
    '1 abc/efgh 10.0.0.7:4005',
    '1 abcdefgh 10.0.0.7\r\n:4005',
    '1 abcdefgh 10.0.0.7',
    '1 abcdefgh 10.0.0.7:0',
    '1 abcdefgh 2130706433:4005',
    '1 abcdefgh relay/x:4005',
    '1 abcdefgh fd00::1:4005',
    `1 abcdefgh ${'a'.repeat(263)}`,
    `1 ${'a'.repeat(65)} 10.0.0.7:4005`,
  ]) {
    test(`is ignored if no relay can have written it: ${JSON.stringify(value.slice(0, 40))}`, () => {
      assert.equal(decodeOwner(value), null);
    });
  }
});
