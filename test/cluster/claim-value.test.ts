import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decodeOwner, encodeOwner } from '../../src/cluster/lease-format.ts';

describe('what is under a key', () => {
  for (const address of [
    '10.0.0.7:4004',
    '[fd00::1]:4004',
    'relay-0.relays.example.svc:4004',
    `${'a'.repeat(253)}:65535`,
  ]) {
    test(`says who claims it, at ${address.slice(0, 40)}`, () => {
      const owner = { id: 'aZ09_-aZ09_-', address };
      assert.deepEqual(decodeOwner(encodeOwner(owner)), owner);
    });
  }

  for (const value of [
    '',
    '1',
    '1 abcdefgh',
    '1 abcdefgh ',
    '2 abcdefgh 10.0.0.7:4004',
    '1 abcdefg 10.0.0.7:4004',
    '1 abcdefgh 10.0.0.7:4004\n',
    '1 abcdefgh 10.0.0.7:4004 x',
    ' 1 abcdefgh 10.0.0.7:4004',
    '1 abc/efgh 10.0.0.7:4004',
    '1 abcdefgh 10.0.0.7\r\n:4004',
    '1 abcdefgh 10.0.0.7',
    '1 abcdefgh 10.0.0.7:0',
    '1 abcdefgh 2130706433:4004',
    '1 abcdefgh relay/x:4004',
    '1 abcdefgh fd00::1:4004',
    `1 abcdefgh ${'a'.repeat(263)}`,
    `1 ${'a'.repeat(65)} 10.0.0.7:4004`,
  ]) {
    test(`is nothing that a relay has written: ${JSON.stringify(value.slice(0, 40))}`, () => {
      assert.equal(decodeOwner(value), null);
    });
  }
});
