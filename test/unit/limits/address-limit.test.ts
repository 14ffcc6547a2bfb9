import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { beforeEach, describe, test } from 'node:test';
import {
  AddressLimit,
  SharedAddressDetector,
  createAddressLimit,
} from '../../../src/limits/address-limit.ts';
import type { AddressLimits, AddressSlot } from '../../../src/limits/address-limit.ts';

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;

let now = 0;
beforeEach(() => {
  now = 5_000_000;
});

const UNLIMITED: AddressLimits = { connectionsPerAddress: null, newConnectionsPerAddress: null };

function limitOf(limits: Partial<AddressLimits>): AddressLimit {
  return new AddressLimit({ ...UNLIMITED, ...limits }, () => now);
}

/** The slots of the accepted connections. */
function enter(limit: AddressLimit, times: number, address = '192.0.2.1'): AddressSlot[] {
  return Array.from({ length: times }, () => limit.acquire(address)).filter((slot) => slot !== null);
}

describe('a limit of open connections per address', () => {
  test('accepts up to the limit, and another connection for each that closes', () => {
    const limit = limitOf({ connectionsPerAddress: 3 });
    const slots = enter(limit, 5);
    assert.equal(slots.length, 3);
    slots[0]?.release();
    slots[0]?.release();
    slots[2]?.release();
    assert.equal(enter(limit, 5).length, 2);
    assert.equal(enter(limit, 5, '192.0.2.2').length, 3);
  });

  test('keeps no entry for an address without connections', () => {
    const limit = limitOf({ connectionsPerAddress: 3 });
    const slots = enter(limit, 3);
    assert.equal(limit.size, 1);
    for (const slot of slots) slot.release();
    assert.equal(limit.size, 0);
  });

  test('counts connections that stay open across salt rotations', () => {
    const limit = limitOf({ connectionsPerAddress: 3 });
    const slots = enter(limit, 3);
    for (let hour = 0; hour < 48; hour += 1) {
      now += HOUR_MS;
      assert.deepEqual(enter(limit, 5), [], `after ${hour + 1} hours`);
      assert.equal(enter(limit, 5, '192.0.2.2').length, hour === 0 ? 3 : 0);
    }
    assert.equal(limit.size, 2);
    // One connection closes and another one opens each hour, so the entry gets the new salt.
    for (let hour = 0; hour < 48; hour += 1) {
      now += HOUR_MS;
      slots.shift()?.release();
      slots.push(...enter(limit, 5));
      assert.equal(slots.length, 3);
    }
    for (const slot of slots) slot.release();
    assert.equal(limit.size, 1);
    assert.equal(enter(limit, 5).length, 3);
  });

  test('counts them if other connections stay open each hour', () => {
    const limit = limitOf({ connectionsPerAddress: 1 });
    const addresses = Array.from({ length: 40 }, (_, index) => `192.0.2.${index}`);
    for (const address of addresses) {
      assert.equal(enter(limit, 1, address).length, 1);
      now += HOUR_MS;
    }
    for (const address of addresses) assert.equal(enter(limit, 1, address).length, 0, address);
  });
});

describe('a limit of new connections per address', () => {
  const newPer = { count: 60, perMs: MINUTE_MS };

  test('accepts the whole allowance at once, and then one connection per interval', () => {
    const limit = limitOf({ newConnectionsPerAddress: newPer });
    assert.equal(enter(limit, 100).length, 60);
    now += 999;
    assert.equal(enter(limit, 1).length, 0);
    now += 1;
    assert.equal(enter(limit, 2).length, 1);
    now += 30_000;
    assert.equal(enter(limit, 100).length, 30);
    assert.equal(enter(limit, 100, '192.0.2.2').length, 60);
  });

  test('keeps one entry per address, and none from earlier', () => {
    const limit = limitOf({ newConnectionsPerAddress: newPer });
    const [old] = enter(limit, 1);
    now += HOUR_MS;
    const again = (): number => {
      for (const slot of enter(limit, 1)) {
        assert.equal(limit.size, 1);
        slot.release();
      }
      return limit.size;
    };
    assert.deepEqual([again(), again()], [1, 1]);
    now += MINUTE_MS;
    assert.deepEqual([again(), again()], [1, 1]);
    old?.release();
    assert.equal(limit.size, 1);
  });

  test('does not count rejected connections, and accumulates no more than the allowance', () => {
    const limit = limitOf({ newConnectionsPerAddress: newPer });
    for (let second = 0; second < 60; second += 1) {
      enter(limit, 1000);
      now += 1000;
    }
    assert.equal(enter(limit, 10).length, 1);
    now += 10 * MINUTE_MS;
    assert.equal(enter(limit, 100).length, 60);
  });

  test('is not reset by closing connections', () => {
    const limit = limitOf({ newConnectionsPerAddress: newPer });
    for (const slot of enter(limit, 60)) slot.release();
    assert.equal(enter(limit, 1).length, 0);
    now += MINUTE_MS - 1;
    const slots = enter(limit, 100);
    assert.equal(slots.length, 59);
    for (const slot of slots) slot.release();
    now += 2000;
    assert.equal(enter(limit, 100).length, 2);
  });

  test('does not count a connection that is rejected by the limit of open connections', () => {
    const limit = limitOf({
      connectionsPerAddress: 2,
      newConnectionsPerAddress: { count: 4, perMs: MINUTE_MS },
    });
    const slots = enter(limit, 100);
    for (const slot of slots) slot.release();
    assert.deepEqual([slots.length, enter(limit, 100).length], [2, 2]);
  });

  test('forgets an address once its allowance is full, and not before', () => {
    for (const busyMs of [0, 29_500, 59_500, 119_500]) {
      for (const restMs of [1, 20_000, 59_999, 60_000, 119_999]) {
        const limit = limitOf({ newConnectionsPerAddress: newPer });
        // Other addresses connect all the time.
        const pass = (ms: number): void => {
          for (const end = now + ms; now < end; now += Math.min(500, end - now)) {
            for (const slot of enter(limit, 1, '192.0.2.3')) slot.release();
          }
        };
        pass(busyMs);
        for (const slot of enter(limit, 60)) slot.release();
        pass(restMs);
        const allowed = Math.min(60, Math.floor(restMs / 1000));
        assert.equal(enter(limit, 100).length, allowed, `${restMs} ms after ${busyMs} ms`);
      }
    }
    const limit = limitOf({ newConnectionsPerAddress: newPer });
    enter(limit, 1, '192.0.2.2');
    for (const slot of enter(limit, 60)) slot.release();
    now += 2 * MINUTE_MS;
    enter(limit, 1, '192.0.2.3');
    assert.equal(limit.size, 2, 'the address with an open connection is kept');
  });
});

describe('an address', () => {
  const same: readonly (readonly string[])[] = [
    ['192.0.2.1', '::ffff:192.0.2.1', '::FFFF:c000:201', '0:0:0:0:0:ffff:c000:0201', '0::ffff:192.0.2.1'],
    [
      '2001:db8:0:1::1',
      '2001:DB8::1:0:0:0:1',
      '2001:0db8:0000:0001:ffff:ffff:ffff:ffff',
      '2001:db8:0:1::192.0.2.1',
      '2001:db8:0:1::%eth0',
    ],
    ['fe80::1%eth0', 'fe80::2%wlan0', 'fe80:0:0:0:1::'],
    ['::1', '::', '0:0:0:0:1::', '::192.0.2.1', '::fffe:192.0.2.1', '::1:ffff:192.0.2.1'],
    ['2001:db8:0:2::1', '2001:db8:0:2::'],
    ['2001:db8::', '2001:db8::ffff:192.0.2.1'],
    ['2001:db8:1::'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4::', '1:2:3:4:5:6:7::'],
    ['192.0.2.10'],
    ['19.0.2.1'],
    ['127.0.0.1', '::ffff:127.0.0.1', '::ffff:7f00:1'],
    ['64:ff9b::192.0.2.1', '64:ff9b::'],
  ];
  for (const forms of same) {
    test(`is the same in all spellings, and different from others: ${forms.join(', ')}`, () => {
      for (const first of forms) {
        const limit = limitOf({ connectionsPerAddress: 1 });
        assert.equal(enter(limit, 1, first).length, 1);
        for (const form of forms) assert.equal(limit.acquire(form), null, form);
        for (const others of same) {
          if (others === forms) continue;
          const [other = ''] = others;
          assert.equal(enter(limit, 1, other).length, 1, `${other} is not ${first}`);
        }
      }
    });
  }

  /** Requested bytes, once per salt. */
  function recordSalts(): { readonly requested: number[]; readonly random: (bytes: number) => Uint8Array } {
    const requested: number[] = [];
    const random = (bytes: number): Uint8Array => {
      requested.push(bytes);
      return randomBytes(bytes);
    };
    return { requested, random };
  }

  test('is hashed with 32 random bytes that change each hour', () => {
    const { requested, random } = recordSalts();
    const limit = new AddressLimit(
      { connectionsPerAddress: 1, newConnectionsPerAddress: null },
      () => now,
      random,
    );
    for (let half = 0; half < 4; half += 1) {
      limit.acquire('192.0.2.1');
      now += HOUR_MS / 2;
    }
    assert.deepEqual(requested, [32, 32]);
  });

  test('is compared with entries of at most eight salts', () => {
    const { requested, random } = recordSalts();
    const limit = new AddressLimit(
      { connectionsPerAddress: 1, newConnectionsPerAddress: null },
      () => now,
      random,
    );
    const slots: (AddressSlot | null)[] = [];
    const pass = (hours: number): void => {
      for (let hour = 0; hour < hours; hour += 1) {
        slots.push(limit.acquire(`192.0.2.${slots.length}`));
        now += HOUR_MS;
      }
    };
    pass(40);
    assert.equal(requested.length, 8);
    // The first address disconnects, and its salt is dropped.
    slots[0]?.release();
    pass(2);
    assert.equal(requested.length, 9);
  });
});

describe('a client with a large network', () => {
  const newPer = { count: 2, perMs: MINUTE_MS };
  const prefix = (index: number): string =>
    `2001:db8:${(index >> 16).toString(16)}:${(index & 0xffff).toString(16)}::1`;

  test('cannot fill the memory or displace connected addresses', () => {
    const limit = limitOf({ connectionsPerAddress: 1, newConnectionsPerAddress: newPer });
    enter(limit, 1, '192.0.2.1');
    const [recent] = enter(limit, 1, '192.0.2.2');
    for (let index = 0; index < 110_000; index += 1) {
      limit.acquire(prefix(index))?.release();
      now += 0.01;
      if (index === 60_000) recent?.release();
    }
    assert.ok(limit.size <= 2 * 32_768 + 1, `${limit.size} addresses are stored`);
    assert.equal(limit.acquire(prefix(109_999))?.release(), undefined);
    assert.equal(limit.acquire(prefix(109_999)), null, 'the newest addresses are kept');
    assert.equal(limit.acquire('192.0.2.1'), null, 'addresses with open connections are kept');
    enter(limit, 1, '192.0.2.2').forEach((slot) => slot.release());
    assert.equal(enter(limit, 1, '192.0.2.3').length, 1, 'and no other address is rejected');
    now += 2 * MINUTE_MS;
    limit.acquire('192.0.2.4');
    assert.equal(limit.size, 3);
  });

  test('is tracked for all of its open connections', () => {
    const limit = limitOf({ connectionsPerAddress: 1 });
    const slots = Array.from({ length: 70_000 }, (_, index) => limit.acquire(prefix(index)));
    assert.equal(limit.acquire(prefix(0)), null);
    for (const slot of slots) slot?.release();
    assert.equal(limit.size, 0);
  });
});

describe('an address limit from the configuration', () => {
  test('is null if nothing is set', () => {
    assert.equal(
      createAddressLimit(UNLIMITED, () => 0),
      null,
    );
  });

  test('limits open connections', () => {
    const limit = createAddressLimit({ ...UNLIMITED, connectionsPerAddress: 1 }, () => 0);
    const slot = limit?.acquire('192.0.2.1');
    assert.ok(slot);
    assert.equal(limit?.acquire('192.0.2.1'), null);
    slot.release();
    assert.ok(limit?.acquire('192.0.2.1'));
  });

  test('limits new connections per time, by the given clock', () => {
    const newPer = { count: 2, perMs: 1000 };
    const limit = createAddressLimit({ ...UNLIMITED, newConnectionsPerAddress: newPer }, () => now);
    const enters = (): boolean => limit?.acquire('192.0.2.1') !== null;
    assert.deepEqual([enters(), enters(), enters()], [true, true, false]);
    now += 500;
    assert.deepEqual([enters(), enters()], [true, false]);
  });

  test('limits both', () => {
    const newPer = { count: 2, perMs: 1000 };
    const limits = { connectionsPerAddress: 1, newConnectionsPerAddress: newPer };
    const limit = createAddressLimit(limits, () => 0);
    const slot = limit?.acquire('192.0.2.1');
    assert.equal(limit?.acquire('192.0.2.1'), null);
    slot?.release();
    limit?.acquire('192.0.2.1')?.release();
    assert.equal(limit?.acquire('192.0.2.1'), null);
  });
});

/** The rejections, counted from 1, that completed a sample with a shared address. */
function found(addresses: readonly string[], detector = new SharedAddressDetector(() => 0)): number[] {
  return addresses.flatMap((address, at) =>
    detector.countRejection(detector.keyOf(address)) ? [at + 1] : [],
  );
}

function repeat(count: number, address: string): string[] {
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
      assert.deepEqual(found(repeat(40, address)), [20, 40]);
      assert.deepEqual(found(['192.0.2.1', ...repeat(18, address), '10.9.9.9']), [20]);
      assert.deepEqual(found(['192.0.2.1', '192.0.2.1', '10.9.9.9', ...repeat(17, address)]), []);
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
      assert.deepEqual(found(repeat(60, address)), []);
    });
  }

  test('is not found if rejections come from many private addresses', () => {
    assert.deepEqual(found(Array.from({ length: 60 }, (_, at) => `10.0.0.${at % 4}`)), []);
  });

  test('is not found over hours: a sample that is not full is dropped', () => {
    const detector = new SharedAddressDetector(() => now);
    assert.deepEqual(found(repeat(19, '10.0.0.1'), detector), []);
    now += HOUR_MS + 1;
    assert.deepEqual(found(repeat(19, '10.0.0.1'), detector), []);
    assert.deepEqual(found(['10.0.0.1'], detector), [1]);
  });

  test('is kept as a salted hash that changes each hour', () => {
    const detector = new SharedAddressDetector(() => now);
    const key = detector.keyOf('10.0.0.1');
    assert.notEqual(key, null);
    assert.equal(detector.keyOf('10.0.0.1'), key);
    assert.notEqual(detector.keyOf('10.0.0.2'), key);
    assert.notEqual(new SharedAddressDetector(() => now).keyOf('10.0.0.1'), key);
    now += HOUR_MS + 1;
    assert.notEqual(detector.keyOf('10.0.0.1'), key);
  });
});
