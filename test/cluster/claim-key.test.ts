import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LeaseKeys } from '../../src/cluster/lease-format.ts';
import { tokenOf } from './claim-house.ts';

describe('the key of a token', () => {
  const keys = new LeaseKeys('a secret of the group');

  test('is the same for all who have the secret, and another for another token', () => {
    const token = tokenOf(1);
    const key = keys.forToken(token);
    assert.equal(new LeaseKeys('a secret of the group').forToken(token), key);
    assert.notEqual(keys.forToken(tokenOf(2)), key);
    assert.notEqual(new LeaseKeys('another secret').forToken(token), key);
  });

  test('does not change from release to release: relays of two of them are in one group', () => {
    // As Python's hmac has it.
    assert.equal(keys.forToken(tokenOf(1)), 'transit-relay:FW8zF6hh6iQfzwcBFYe1SQ');
  });

  test('is 128 bits behind a prefix, and has nothing of the token', () => {
    const token = tokenOf(0xabcdef);
    const key = keys.forToken(token);
    assert.match(key, /^transit-relay:[\w-]{22}$/u);
    for (let at = 0; at + 6 <= token.length; at += 6) assert.ok(!key.includes(token.slice(at, at + 6)));
  });
});
