import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Config } from '../../src/config/config.ts';
import { addressLimitOf, pacerOf, roomOf } from '../../src/limits/from-config.ts';
import type { Resources, Room } from '../../src/limits/from-config.ts';
import type { Paced, Pacer } from '../../src/limits/pacer.ts';

type Limits = Config['limits'];

/** As it is where the operator has set nothing. */
const DEFAULTS: Limits = {
  maxConnections: 'auto',
  maxWaiting: 'auto',
  connectionsPerAddress: null,
  newConnectionsPerAddress: null,
  pairBytesPerSecond: null,
  totalBytesPerSecond: null,
  pairBytes: null,
};

const ALONE = { hasTls: false, isInGroup: false };

const MiB = 2 ** 20;

/** As much memory as no limit follows from. */
const MUCH: Resources = { descriptors: 1_048_576, memoryBytes: 2 ** 40, bufferBytes: 64 * MiB };

describe('the room for clients', () => {
  const cases: readonly (readonly [
    name: string,
    limits: Partial<Limits>,
    resources: Partial<Resources>,
    room: Room,
  ])[] = [
    [
      'nothing is set',
      {},
      { descriptors: 1024 },
      { maxConnections: 896, maxWaiting: 448, fits: 896, follows: 'file descriptors' },
    ],
    [
      'there are more descriptors than anybody needs',
      {},
      {},
      { maxConnections: 65_536, maxWaiting: 32_768, fits: 1_048_448, follows: 'default' },
    ],
    [
      'the memory is what there is least of: it holds 832 MiB of connections, of 20 KiB each',
      {},
      { memoryBytes: 1024 * MiB },
      { maxConnections: 42_598, maxWaiting: 21_299, fits: 1_048_448, follows: 'memory' },
    ],
    [
      'buffers may take all of the memory: the fewest connections there may be',
      {},
      { memoryBytes: 1024 * MiB, bufferBytes: 2048 * MiB },
      { maxConnections: 100, maxWaiting: 50, fits: 1_048_448, follows: 'memory' },
    ],
    [
      'there is hardly any memory, and fewer descriptors still',
      {},
      { memoryBytes: 64 * MiB, descriptors: 178 },
      { maxConnections: 50, maxWaiting: 25, fits: 50, follows: 'file descriptors' },
    ],
    [
      'the operator says how many may come: an odd one that waits has a partner too',
      { maxConnections: 7 },
      { descriptors: 1024 },
      { maxConnections: 7, maxWaiting: 4, fits: 896, follows: 'RELAY_MAX_CONNECTIONS' },
    ],
    [
      'the operator wants more than fit',
      { maxConnections: 5000 },
      { descriptors: 1024, memoryBytes: 256 * MiB },
      { maxConnections: 5000, maxWaiting: 2500, fits: 896, follows: 'RELAY_MAX_CONNECTIONS' },
    ],
    [
      'as many may come as like',
      { maxConnections: null },
      { descriptors: 1024 },
      { maxConnections: null, maxWaiting: 448, fits: 896, follows: 'RELAY_MAX_CONNECTIONS' },
    ],
    [
      'as many may wait as like',
      { maxWaiting: null },
      { descriptors: 1024 },
      { maxConnections: 896, maxWaiting: null, fits: 896, follows: 'file descriptors' },
    ],
    [
      'the operator says how many may wait',
      { maxWaiting: 9 },
      { descriptors: 1024 },
      { maxConnections: 896, maxWaiting: 9, fits: 896, follows: 'file descriptors' },
    ],
    [
      'the operator says both',
      { maxConnections: 10, maxWaiting: 3 },
      { descriptors: 1024 },
      { maxConnections: 10, maxWaiting: 3, fits: 896, follows: 'RELAY_MAX_CONNECTIONS' },
    ],
  ];
  for (const [name, limits, resources, room] of cases) {
    test(`where ${name}`, () => {
      assert.deepEqual(roomOf({ ...DEFAULTS, ...limits }, { ...MUCH, ...resources }, ALONE), room);
    });
  }

  test('is less where they may come by TLS, unless the operator says how much', () => {
    const room = (limits: Partial<Limits>, resources: Partial<Resources>): number | null =>
      roomOf({ ...DEFAULTS, ...limits }, { ...MUCH, ...resources }, { ...ALONE, hasTls: true })
        .maxConnections;
    assert.deepEqual([room({}, {}), room({}, { descriptors: 1024 })], [8192, 896]);
    // 320 MiB for connections, of 120 KiB each.
    assert.equal(room({}, { memoryBytes: 512 * MiB }), 2730);
    assert.equal(room({ maxConnections: 20_000 }, {}), 20_000);
  });

  test('is less in a group, where each client may have a link', () => {
    const needs = { hasTls: false, isInGroup: true };
    const room = roomOf(DEFAULTS, { ...MUCH, descriptors: 1024 }, needs);
    assert.deepEqual(room, { maxConnections: 400, maxWaiting: 200, fits: 400, follows: 'file descriptors' });
    assert.equal(roomOf(DEFAULTS, { ...MUCH, memoryBytes: 1024 * MiB }, needs).maxConnections, 21_299);
  });
});

describe('the limit of addresses', () => {
  test('is none where nothing is set', () => {
    assert.equal(
      addressLimitOf(DEFAULTS, () => 0),
      null,
    );
  });

  test('is of connections at once', () => {
    const limit = addressLimitOf({ ...DEFAULTS, connectionsPerAddress: 1 }, () => 0);
    const slot = limit?.enter('192.0.2.1');
    assert.ok(slot);
    assert.equal(limit?.enter('192.0.2.1'), null);
    slot.leave();
    assert.ok(limit?.enter('192.0.2.1'));
  });

  test('is of new connections in a time, by the clock it is given', () => {
    let now = 0;
    const newPer = { count: 2, perMs: 1000 };
    const limit = addressLimitOf({ ...DEFAULTS, newConnectionsPerAddress: newPer }, () => now);
    const enters = (): boolean => limit?.enter('192.0.2.1') !== null;
    assert.deepEqual([enters(), enters(), enters()], [true, true, false]);
    now = 500;
    assert.deepEqual([enters(), enters()], [true, false]);
  });

  test('is of both', () => {
    const newPer = { count: 2, perMs: 1000 };
    const limits = { ...DEFAULTS, connectionsPerAddress: 1, newConnectionsPerAddress: newPer };
    const limit = addressLimitOf(limits, () => 0);
    const slot = limit?.enter('192.0.2.1');
    assert.equal(limit?.enter('192.0.2.1'), null);
    slot?.leave();
    limit?.enter('192.0.2.1')?.leave();
    assert.equal(limit?.enter('192.0.2.1'), null);
  });
});

/** A pair that remembers whether it may read. */
class Reader implements Paced {
  isHeld = false;
  hold(): void {
    this.isHeld = true;
  }
  release(): void {
    this.isHeld = false;
  }
}

/** One pair reads so many bytes, another one nothing. Returns which of them may not go on. */
function heldAfter(
  pacer: Pacer | null,
  bytes: number,
): { readonly busy: boolean; readonly newcomer: boolean } {
  assert.ok(pacer);
  const busy = new Reader();
  const newcomer = new Reader();
  pacer.join(busy).spend(bytes);
  pacer.join(newcomer);
  const held = { busy: busy.isHeld, newcomer: newcomer.isHeld };
  pacer.close();
  return held;
}

describe('the pacer', () => {
  test('is none where no rate is set', () => {
    assert.equal(
      pacerOf(DEFAULTS, () => 0),
      null,
    );
  });

  test('holds a pair by its own rate, and no other one', () => {
    const pacer = pacerOf({ ...DEFAULTS, pairBytesPerSecond: 1e6 }, () => 0);
    assert.deepEqual(heldAfter(pacer, 1e6), { busy: true, newcomer: false });
  });

  test('holds everybody by the rate of all', () => {
    const pacer = pacerOf({ ...DEFAULTS, totalBytesPerSecond: 1e6 }, () => 0);
    assert.deepEqual(heldAfter(pacer, 1e6), { busy: true, newcomer: true });
  });

  test('keeps two rates apart', () => {
    const limits = { ...DEFAULTS, pairBytesPerSecond: 1e6, totalBytesPerSecond: 1e9 };
    const held = heldAfter(
      pacerOf(limits, () => 0),
      2e6,
    );
    assert.deepEqual(held, { busy: true, newcomer: false });
  });

  test('goes by the clock it is given', () => {
    let now = 0;
    const pacer = pacerOf({ ...DEFAULTS, pairBytesPerSecond: 1e6 }, () => now);
    const reader = new Reader();
    const pace = pacer?.join(reader);
    now = 40;
    pace?.spend(40_000);
    assert.equal(reader.isHeld, false);
    pace?.spend(1);
    assert.equal(reader.isHeld, true);
    pacer?.close();
  });
});
