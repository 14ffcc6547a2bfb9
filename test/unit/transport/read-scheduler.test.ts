import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import {
  BufferPool,
  MAX_READ_BYTES,
  MIN_READ_BYTES,
  ReadScheduler,
} from '../../../src/transport/read-scheduler.ts';
import type { ReadFlow } from '../../../src/transport/read-scheduler.ts';
import { randomBytesOf } from '../../support/bytes.ts';

const MIB = 1_048_576;
const BULK_BYTES = 65_536;
const MAX_QUANTUM_BYTES = 8 * MIB;

/** All flows of the current test. */
const created: Flow[] = [];

/** A connection whose reads return `perRead` bytes, until its supply is used up. */
class Flow implements ReadFlow {
  sizeClass = 5;
  isQueued = false;
  servedBytes = 0;
  served = 0;
  reads = 0;
  isDequeued = false;
  readonly #perRead: number;
  #supply: number;

  constructor(perRead = MIB, supply = Number.POSITIVE_INFINITY) {
    this.#perRead = perRead;
    this.#supply = supply;
    created.push(this);
  }

  serve(memory: Uint8Array): number {
    const count = Math.min(this.#perRead, this.#supply, memory.length);
    this.#supply -= count;
    this.served += count;
    this.reads += 1;
    return count;
  }

  onDequeued(): void {
    this.isDequeued = true;
  }

  stop(): void {
    this.#supply = 0;
  }
}

/** Waits for event loop ticks. Tasks that the scheduler has already scheduled run first. */
async function ticks(count: number): Promise<void> {
  for (let tick = 0; tick < count; tick += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Empties the queue of the scheduler, so that no test continues after its end. */
async function finish(flows: readonly Flow[]): Promise<void> {
  for (const flow of flows) flow.stop();
  while (!flows.every((flow) => flow.isDequeued)) await ticks(1);
}

describe('the read size', () => {
  test('doubles with each size class up to 512 KiB', () => {
    const scheduler = new ReadScheduler(64 * MIB);
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5, 6].map((sizeClass) => scheduler.readSizeBytes(sizeClass) / 1024),
      [16, 32, 64, 128, 256, 512, 512],
    );
    assert.equal(scheduler.nextSizeClass(0), 1);
    assert.equal(scheduler.nextSizeClass(5), 5);
  });

  test('shrinks to the smallest as more bytes are buffered, and grows again', () => {
    const scheduler = new ReadScheduler(64 * MIB);
    const sizes: number[] = [];
    for (const mebibytes of [0, 16, 24, 28, 31, 32, 64, 100]) {
      scheduler.bufferedBytes = mebibytes * MIB;
      sizes.push(scheduler.readSizeBytes(5) / 1024);
    }
    assert.deepEqual(sizes, [512, 512, 512, 256, 64, 16, 16, 16]);
    scheduler.bufferedBytes = 0;
    assert.equal(scheduler.readSizeBytes(5), MIB / 2);
  });

  test('is the smallest without a budget', () => {
    assert.equal(new ReadScheduler(0).readSizeBytes(6), MIN_READ_BYTES);
  });

  test('keeps 1,000 receivers that stalled in the middle of their largest reads within the budget', () => {
    const scheduler = new ReadScheduler(64 * MIB);
    for (let receiver = 0; receiver < 1000; receiver += 1)
      scheduler.bufferedBytes += scheduler.readSizeBytes(5);
    assert.ok(scheduler.bufferedBytes <= 64 * MIB, `${scheduler.bufferedBytes} bytes are buffered`);
  });
});

describe('the queue of flows', () => {
  // Reads take no time, except those of slow flows.
  let now = 0;
  beforeEach(() => {
    mock.method(performance, 'now', () => now);
  });

  afterEach(() => {
    mock.restoreAll();
    // The queue of a failed test would keep the process busy.
    for (const flow of created.splice(0)) flow.stop();
  });

  test('serves a single bulk flow 2 MiB per tick', async () => {
    const scheduler = new ReadScheduler(64 * MIB);
    const flow = new Flow();
    scheduler.enqueue(flow);
    await ticks(1);
    assert.equal(flow.served, 2 * MIB);
    await ticks(2);
    assert.equal(flow.served, 6 * MIB);
    await finish([flow]);
  });

  test('makes the tick after a new connection short, and the next one long again', async () => {
    const scheduler = new ReadScheduler(64 * MIB);
    const flow = new Flow();
    scheduler.enqueue(flow);
    scheduler.onAccept();
    await ticks(1);
    assert.equal(flow.served, MIB / 8);
    await ticks(1);
    assert.equal(flow.served, MIB / 8 + 2 * MIB);
    await finish([flow]);
  });

  test('gives a flow with slow bytes a fair share of time', async () => {
    const scheduler = new ReadScheduler(64 * MIB);
    const order: string[] = [];
    class Named extends Flow {
      readonly #name: string;
      readonly #busyMs: number;

      constructor(name: string, busyMs: number) {
        super();
        this.#name = name;
        this.#busyMs = busyMs;
      }

      override serve(memory: Uint8Array): number {
        order.push(this.#name);
        now += this.#busyMs;
        return super.serve(memory);
      }
    }
    const flows = [new Named('slow', 5), new Named('quick', 0)];
    for (const flow of flows) scheduler.enqueue(flow);
    while (order.length < 100) await ticks(1);
    await finish(flows);
    // A fair share of bytes would be 16 reads in a row for each flow. A fair share of time is one read of 5
    // ms.
    const slow = order.join(' ').match(/slow(?: slow)*/gu) ?? [];
    assert.ok(slow.length >= 3);
    assert.ok(
      slow.every((reads) => reads.split(' ').length <= 2),
      order.join(' '),
    );
  });

  test('removes a flow once a read returns few bytes', async () => {
    const scheduler = new ReadScheduler(64 * MIB);
    const flow = new Flow(BULK_BYTES, 2 * BULK_BYTES + 1);
    scheduler.enqueue(flow);
    await ticks(2);
    assert.ok(flow.isDequeued);
    assert.ok(!flow.isQueued);
    assert.deepEqual([flow.served, flow.reads], [2 * BULK_BYTES + 1, 3]);
  });

  test('contains each flow once, however often it is queued', async () => {
    const scheduler = new ReadScheduler(64 * MIB);
    const flow = new Flow(MIB, 3 * MIB);
    for (let times = 0; times < 5; times += 1) scheduler.enqueue(flow);
    await finish([flow]);
    assert.ok(flow.reads <= 4);
  });

  for (const count of [2, 8, 40, 1000]) {
    test(`gives ${count} flows 1 MiB per tick together, and none more than a quantum more than another`, async () => {
      const scheduler = new ReadScheduler(64 * MIB);
      const flows = Array.from({ length: count }, () => new Flow());
      for (const flow of flows) scheduler.enqueue(flow);
      const total = (): number => flows.reduce((sum, flow) => sum + flow.served, 0);
      let before = 0;
      for (let tick = 0; tick < 4000; tick += 1) {
        await ticks(1);
        const after = total();
        assert.ok(after - before <= 2 * MIB, `${after - before} bytes in one tick`);
        before = after;
      }
      const served = flows.map((flow) => flow.served);
      const lead = Math.max(...served) - Math.min(...served);
      assert.ok(lead <= MAX_QUANTUM_BYTES + 2 * MIB, `${lead} bytes ahead`);
      await finish(flows);
    });
  }

  test('ends a tick early if the bytes of each read are slow to process', async () => {
    /** Takes a millisecond for each read. A tick has two. */
    class SlowFlow extends Flow {
      override serve(memory: Uint8Array): number {
        now += 1;
        return super.serve(memory);
      }
    }
    const scheduler = new ReadScheduler(0);
    const flows = [new SlowFlow(), new SlowFlow()];
    for (const flow of flows) scheduler.enqueue(flow);
    const reads = (): number => flows.reduce((sum, flow) => sum + flow.reads, 0);
    for (let tick = 1; tick <= 5; tick += 1) {
      const before = reads();
      await ticks(1);
      assert.ok(reads() - before <= 2, `${reads() - before} reads in one tick`);
    }
    assert.ok(reads() >= 5);
    await finish(flows);
  });

  test('serves a new flow before queued ones, but only briefly', async () => {
    const scheduler = new ReadScheduler(64 * MIB);
    const old = Array.from({ length: 100 }, () => new Flow());
    for (const flow of old) scheduler.enqueue(flow);
    await ticks(200);
    const added = new Flow(BULK_BYTES);
    scheduler.enqueue(added);
    await ticks(2);
    assert.ok(added.served >= 4 * BULK_BYTES);
    assert.ok(added.served <= MIB);
    await finish([...old, added]);
  });
});

describe('the pool of buffers', () => {
  test('copies bytes, so that changes of the original have no effect', () => {
    const bufferPool = new BufferPool();
    for (const size of [1, 65_535, 65_536, 300_000, MAX_READ_BYTES, MAX_READ_BYTES + 1]) {
      const bytes = randomBytesOf(size, size);
      const expected = Buffer.from(bytes);
      const copy = bufferPool.copy(bytes);
      bytes.fill(0);
      assert.ok(expected.equals(copy));
    }
  });

  test('reuses a buffer after its release, and not before', () => {
    const bufferPool = new BufferPool();
    const [first, second] = [
      bufferPool.copy(randomBytesOf(1, 100_000)),
      bufferPool.copy(randomBytesOf(2, 100_000)),
    ];
    assert.notEqual(first.buffer, second.buffer);
    bufferPool.release(first);
    const third = bufferPool.copy(randomBytesOf(3, 200_000));
    assert.equal(third.buffer, first.buffer);
    assert.ok(randomBytesOf(2, 100_000).equals(second));
    assert.ok(randomBytesOf(3, 200_000).equals(third));
  });

  test('frees all but two buffers when none is in use', () => {
    const bufferPool = new BufferPool();
    const copyMany = (count: number): Uint8Array[] =>
      Array.from({ length: count }, (_, index) => bufferPool.copy(randomBytesOf(index, 100_000)));
    const before = copyMany(5);
    const buffers = new Set(before.map((copy) => copy.buffer));
    for (const copy of before) bufferPool.release(copy);
    const after = copyMany(9);
    assert.equal(after.filter((copy) => buffers.has(copy.buffer)).length, 2);
    assert.equal(after.filter((copy) => copy.buffer.byteLength === MAX_READ_BYTES).length, 8);
  });

  test('hands out a buffer once if it was released twice', () => {
    const bufferPool = new BufferPool();
    const copy = bufferPool.copy(randomBytesOf(1, 100_000));
    bufferPool.release(copy);
    bufferPool.release(copy);
    assert.notEqual(bufferPool.copy(copy).buffer, bufferPool.copy(randomBytesOf(2, 100_000)).buffer);
  });

  test('has at most eight buffers: other and small copies get exactly the memory that they need', () => {
    const bufferPool = new BufferPool();
    const small = bufferPool.copy(randomBytesOf(1, 65_535));
    assert.ok(small.buffer.byteLength < MAX_READ_BYTES);
    const copies = Array.from({ length: 20 }, (_, index) => bufferPool.copy(randomBytesOf(index, 100_000)));
    const pooled = copies.filter((copy) => copy.buffer.byteLength === MAX_READ_BYTES);
    assert.equal(pooled.length, 8);
    for (const copy of copies) bufferPool.release(copy);
    const again = copies.map((copy) => bufferPool.copy(copy));
    assert.equal(new Set(again.map((copy) => copy.buffer)).size, 20);
    assert.equal(again.filter((copy) => copy.buffer.byteLength === MAX_READ_BYTES).length, 8);
  });
});
