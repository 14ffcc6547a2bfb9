import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SharedAddressDetector } from '../../src/limits/address-limit.ts';

const HOUR_MS = 3_600_000;

/** The rejections, counted from 1, that completed a sample with a shared address. */
function found(addresses: readonly string[], detector = new SharedAddressDetector(() => 0)): number[] {
  return addresses.flatMap((address, at) =>
    detector.countRejection(detector.keyOf(address)) ? [at + 1] : [],
  );
}

function times(count: number, address: string): string[] {
  return Array<string>(count).fill(address);
}

describe('a shared address', () => {
  for (const address of [
    '10.88.0.1',
    '127.0.0.1',
    '172.17.0.1',
    '172.31.255.255',
    '192.168.65.1',
    '169.254.1.1',
    '100.64.0.1',
    '100.127.255.255',
    '::ffff:172.17.0.1',
    'fd00::1',
    'fc01:2::3',
    'fe80::1%eth0',
    '::1',
  ]) {
    test(`is found if nearly all rejections come from ${address}`, () => {
      assert.deepEqual(found(times(40, address)), [20, 40]);
      assert.deepEqual(found(['192.0.2.1', ...times(18, address), '10.9.9.9']), [20]);
      assert.deepEqual(found(['192.0.2.1', '192.0.2.1', '10.9.9.9', ...times(17, address)]), []);
    });
  }

  for (const address of [
    '11.0.0.1',
    '172.15.0.1',
    '172.32.0.1',
    '192.169.0.1',
    '100.63.0.1',
    '100.128.0.1',
    '2001:db8::1',
    'fec0::1',
    'fb00::1',
  ]) {
    test(`is not found if rejections come from ${address}, which is not private`, () => {
      assert.deepEqual(found(times(60, address)), []);
    });
  }

  test('is not found if rejections come from many private addresses', () => {
    assert.deepEqual(found(Array.from({ length: 60 }, (_, at) => `10.0.0.${at % 4}`)), []);
  });

  test('is not found over hours: a sample that is not full is dropped', () => {
    let now = 0;
    const detector = new SharedAddressDetector(() => now);
    assert.deepEqual(found(times(19, '10.0.0.1'), detector), []);
    now = HOUR_MS + 1;
    assert.deepEqual(found(times(19, '10.0.0.1'), detector), []);
    assert.deepEqual(found(['10.0.0.1'], detector), [1]);
  });
});
