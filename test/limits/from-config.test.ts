import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { RelayConfig } from '../../src/config/relay-config.ts';
import { createAddressLimit, createRateLimiter, computeCapacity } from '../../src/limits/capacity.ts';
import type { Resources, Capacity } from '../../src/limits/capacity.ts';
import type { Throttleable, RateLimiter } from '../../src/limits/rate-limiter.ts';

type Limits = RelayConfig['limits'];

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

const ALONE = { hasTls: false, isClustered: false };

const MiB = 2 ** 20;

/** As much memory as no limit follows from. */
const MUCH: Resources = { descriptors: 1_048_576, memoryBytes: 2 ** 40, bufferBytes: 64 * MiB };

describe('the room for clients', () => {
  const cases: readonly (readonly [
    name: string,
    limits: Partial<Limits>,
    resources: Partial<Resources>,
    room: Capacity,
  ])[] = [
    [
      'nothing is set',
      {},
      { descriptors: 1024 },
      { maxConnections: 896, maxWaiting: 448, fdCapacity: 896, limitedBy: 'file descriptors' },
    ],
    [
      'there are more descriptors than anybody needs',
      {},
      {},
      { maxConnections: 65_536, maxWaiting: 32_768, fdCapacity: 1_048_448, limitedBy: 'default' },
    ],
    [
      'the memory is what there is least of: it holds 832 MiB of connections, of 20 KiB each',
      {},
      { memoryBytes: 1024 * MiB },
      { maxConnections: 42_598, maxWaiting: 21_299, fdCapacity: 1_048_448, limitedBy: 'memory' },
    ],
    [
      'buffers may take all of the memory: the fewest connections there may be',
      {},
      { memoryBytes: 1024 * MiB, bufferBytes: 2048 * MiB },
      { maxConnections: 100, maxWaiting: 50, fdCapacity: 1_048_448, limitedBy: 'memory' },
    ],
    [
      'there is hardly any memory, and fewer descriptors still',
      {},
      { memoryBytes: 64 * MiB, descriptors: 178 },
      { maxConnections: 50, maxWaiting: 25, fdCapacity: 50, limitedBy: 'file descriptors' },
    ],
    [
      'the operator says how many may come: an odd one that waits has a partner too',
      { maxConnections: 7 },
      { descriptors: 1024 },
      { maxConnections: 7, maxWaiting: 4, fdCapacity: 896, limitedBy: 'RELAY_MAX_CONNECTIONS' },
    ],
    [
      'the operator wants more than fit',
      { maxConnections: 5000 },
      { descriptors: 1024, memoryBytes: 256 * MiB },
      { maxConnections: 5000, maxWaiting: 2500, fdCapacity: 896, limitedBy: 'RELAY_MAX_CONNECTIONS' },
    ],
    [
      'as many may come as like',
      { maxConnections: null },
      { descriptors: 1024 },
      { maxConnections: null, maxWaiting: 448, fdCapacity: 896, limitedBy: 'RELAY_MAX_CONNECTIONS' },
    ],
    [
      'as many may wait as like',
      { maxWaiting: null },
      { descriptors: 1024 },
      { maxConnections: 896, maxWaiting: null, fdCapacity: 896, limitedBy: 'file descriptors' },
    ],
    [
      'the operator says how many may wait',
      { maxWaiting: 9 },
      { descriptors: 1024 },
      { maxConnections: 896, maxWaiting: 9, fdCapacity: 896, limitedBy: 'file descriptors' },
    ],
    [
      'the operator says both',
      { maxConnections: 10, maxWaiting: 3 },
      { descriptors: 1024 },
      { maxConnections: 10, maxWaiting: 3, fdCapacity: 896, limitedBy: 'RELAY_MAX_CONNECTIONS' },
    ],
  ];
  for (const [name, limits, resources, room] of cases) {
    test(`where ${name}`, () => {
      assert.deepEqual(computeCapacity({ ...DEFAULTS, ...limits }, { ...MUCH, ...resources }, ALONE), room);
    });
  }

  test('is less where they may come by TLS, unless the operator says how much', () => {
    const room = (limits: Partial<Limits>, resources: Partial<Resources>): number | null =>
      computeCapacity({ ...DEFAULTS, ...limits }, { ...MUCH, ...resources }, { ...ALONE, hasTls: true })
        .maxConnections;
    assert.deepEqual([room({}, {}), room({}, { descriptors: 1024 })], [8192, 896]);
    // 320 MiB for connections, of 120 KiB each.
    assert.equal(room({}, { memoryBytes: 512 * MiB }), 2730);
    assert.equal(room({ maxConnections: 20_000 }, {}), 20_000);
  });

  test('is less in a group, where each client may have a link', () => {
    const needs = { hasTls: false, isClustered: true };
    const room = computeCapacity(DEFAULTS, { ...MUCH, descriptors: 1024 }, needs);
    assert.deepEqual(room, {
      maxConnections: 400,
      maxWaiting: 200,
      fdCapacity: 400,
      limitedBy: 'file descriptors',
    });
    assert.equal(
      computeCapacity(DEFAULTS, { ...MUCH, memoryBytes: 1024 * MiB }, needs).maxConnections,
      21_299,
    );
  });
});

describe('the limit of addresses', () => {
  test('is none where nothing is set', () => {
    assert.equal(
      createAddressLimit(DEFAULTS, () => 0),
      null,
    );
  });

  test('is of connections at once', () => {
    const limit = createAddressLimit({ ...DEFAULTS, connectionsPerAddress: 1 }, () => 0);
    const slot = limit?.acquire('192.0.2.1');
    assert.ok(slot);
    assert.equal(limit?.acquire('192.0.2.1'), null);
    slot.release();
    assert.ok(limit?.acquire('192.0.2.1'));
  });

  test('is of new connections in a time, by the clock it is given', () => {
    let now = 0;
    const newPer = { count: 2, perMs: 1000 };
    const limit = createAddressLimit({ ...DEFAULTS, newConnectionsPerAddress: newPer }, () => now);
    const enters = (): boolean => limit?.acquire('192.0.2.1') !== null;
    assert.deepEqual([enters(), enters(), enters()], [true, true, false]);
    now = 500;
    assert.deepEqual([enters(), enters()], [true, false]);
  });

  test('is of both', () => {
    const newPer = { count: 2, perMs: 1000 };
    const limits = { ...DEFAULTS, connectionsPerAddress: 1, newConnectionsPerAddress: newPer };
    const limit = createAddressLimit(limits, () => 0);
    const slot = limit?.acquire('192.0.2.1');
    assert.equal(limit?.acquire('192.0.2.1'), null);
    slot?.release();
    limit?.acquire('192.0.2.1')?.release();
    assert.equal(limit?.acquire('192.0.2.1'), null);
  });
});

/** A pair that remembers whether it may read. */
class Reader implements Throttleable {
  isHeld = false;
  pauseBoth(): void {
    this.isHeld = true;
  }
  resumeBoth(): void {
    this.isHeld = false;
  }
}

/** One pair reads so many bytes, another one nothing. Returns which of them may not go on. */
function heldAfter(
  rateLimiter: RateLimiter | null,
  bytes: number,
): { readonly busy: boolean; readonly newcomer: boolean } {
  assert.ok(rateLimiter);
  const busy = new Reader();
  const newcomer = new Reader();
  rateLimiter.join(busy).consume(bytes);
  rateLimiter.join(newcomer);
  const held = { busy: busy.isHeld, newcomer: newcomer.isHeld };
  rateLimiter.close();
  return held;
}

describe('the pacer', () => {
  test('is none where no rate is set', () => {
    assert.equal(
      createRateLimiter(DEFAULTS, () => 0),
      null,
    );
  });

  test('holds a pair by its own rate, and no other one', () => {
    const rateLimiter = createRateLimiter({ ...DEFAULTS, pairBytesPerSecond: 1e6 }, () => 0);
    assert.deepEqual(heldAfter(rateLimiter, 1e6), { busy: true, newcomer: false });
  });

  test('holds everybody by the rate of all', () => {
    const rateLimiter = createRateLimiter({ ...DEFAULTS, totalBytesPerSecond: 1e6 }, () => 0);
    assert.deepEqual(heldAfter(rateLimiter, 1e6), { busy: true, newcomer: true });
  });

  test('keeps two rates apart', () => {
    const limits = { ...DEFAULTS, pairBytesPerSecond: 1e6, totalBytesPerSecond: 1e9 };
    const held = heldAfter(
      createRateLimiter(limits, () => 0),
      2e6,
    );
    assert.deepEqual(held, { busy: true, newcomer: false });
  });

  test('goes by the clock it is given', () => {
    let now = 0;
    const rateLimiter = createRateLimiter({ ...DEFAULTS, pairBytesPerSecond: 1e6 }, () => now);
    const reader = new Reader();
    const pace = rateLimiter?.join(reader);
    now = 40;
    pace?.consume(40_000);
    assert.equal(reader.isHeld, false);
    pace?.consume(1);
    assert.equal(reader.isHeld, true);
    rateLimiter?.close();
  });
});
