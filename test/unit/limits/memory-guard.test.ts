import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { MemoryGuard, readMemoryUsage } from '../../../src/limits/memory-guard.ts';
import type { MemoryUsage } from '../../../src/limits/memory-guard.ts';
import { scratch } from '../../support/scratch.ts';

const MiB = 2 ** 20;

/** A guard with a limit of 1000 bytes, and what it has done. */
function open(unreclaimable = 0, sockets = 500) {
  const state = { usage: { unreclaimable, sockets } as MemoryUsage | null, stalledPairs: 10 };
  const steps: unknown[] = [];
  const guard = new MemoryGuard({
    limitBytes: 1000,
    readUsage: () => state.usage,
    endStalled: (share, minStallMs) => {
      steps.push(['end', share, minStallMs]);
      return Promise.resolve(state.stalledPairs);
    },
    onShortage: (endedPairs) => steps.push(['shortage', endedPairs]),
  });
  return { guard, state, steps };
}

describe('the memory guard', () => {
  const cases: readonly (readonly [name: string, usage: MemoryUsage | null, steps: readonly unknown[]])[] = [
    ['does nothing below 75 % of the limit', { unreclaimable: 750, sockets: 600 }, []],
    [
      'ends the share of the stalled pairs by which 75 % are exceeded',
      { unreclaimable: 800, sockets: 500 },
      [
        ['end', 0.1, 2000],
        ['shortage', 10],
      ],
    ],
    [
      'ends more above 85 %, and pairs that have been stalled for a shorter time',
      { unreclaimable: 875, sockets: 500 },
      [
        ['end', 0.25, 100],
        ['shortage', 10],
      ],
    ],
    [
      'ends all stalled pairs if the buffers of sockets are less than the excess',
      { unreclaimable: 1000, sockets: 150 },
      [
        ['end', 1, 100],
        ['shortage', 10],
      ],
    ],
    ['does nothing if sockets are not the reason', { unreclaimable: 1000, sockets: 99 }, []],
    ['does nothing if the usage cannot be read', null, []],
  ];
  for (const [name, usage, expected] of cases) {
    test(name, async () => {
      const { guard, state, steps } = open();
      state.usage = usage;
      await guard.check();
      assert.deepEqual(steps, expected);
    });
  }

  test('counts the pairs that it has ended', async () => {
    const { guard } = open(950);
    assert.equal(guard.endedPairs, 0);
    await guard.check();
    await guard.check();
    assert.equal(guard.endedPairs, 20);
  });

  test('reports that no pair is stalled only if memory is nearly used up', async () => {
    const { guard, state, steps } = open(800);
    state.stalledPairs = 0;
    await guard.check();
    assert.deepEqual(steps, [['end', 0.1, 2000]]);
    state.usage = { unreclaimable: 950, sockets: 500 };
    await guard.check();
    assert.deepEqual(steps.slice(1), [
      ['end', 0.4, 100],
      ['shortage', 0],
    ]);
  });

  test('ends no more pairs until those of the last check have been ended', async () => {
    const ended = Promise.withResolvers<number>();
    let calls = 0;
    const guard = new MemoryGuard({
      limitBytes: 1000,
      readUsage: () => ({ unreclaimable: 950, sockets: 500 }),
      endStalled: () => {
        calls += 1;
        return ended.promise;
      },
      onShortage: () => undefined,
    });
    const first = guard.check();
    await guard.check();
    assert.equal(calls, 1);
    ended.resolve(3);
    await first;
    await guard.check();
    assert.deepEqual([calls, guard.endedPairs], [2, 6]);
  });

  test('checks every 50 ms until it is closed', (context) => {
    context.mock.timers.enable({ apis: ['setInterval'] });
    let reads = 0;
    const guard = new MemoryGuard({
      limitBytes: 1000,
      readUsage: () => {
        reads += 1;
        return null;
      },
      endStalled: () => Promise.resolve(0),
      onShortage: () => undefined,
    });
    context.mock.timers.tick(1000);
    assert.equal(reads, 0);
    guard.start();
    context.mock.timers.tick(1000);
    assert.equal(reads, 20);
    guard.close();
    context.mock.timers.tick(1000);
    assert.equal(reads, 20);
  });
});

describe('the memory usage of a cgroup', () => {
  /** As Linux 6.1 prints it, without most lines. */
  const STATISTICS = `anon ${48 * MiB}
file ${64 * MiB}
kernel ${3 * MiB}
sock ${40 * MiB}
shmem ${1 * MiB}
file_mapped ${50 * MiB}
inactive_file ${60 * MiB}
slab_reclaimable ${2 * MiB}
slab_unreclaimable ${1 * MiB}
`;

  test('is without the page cache, except for mapped files and shared memory', async (context) => {
    const cgroup = await scratch(context);
    await writeFile(join(cgroup, 'memory.current'), `${155 * MiB}\n`);
    await writeFile(join(cgroup, 'memory.stat'), STATISTICS);
    // 13 MiB of files and 2 MiB of caches of the kernel can be reclaimed.
    assert.deepEqual(readMemoryUsage(cgroup), { unreclaimable: 140 * MiB, sockets: 40 * MiB });
  });

  test('is unknown if it cannot be read', async (context) => {
    const cgroup = await scratch(context);
    assert.equal(readMemoryUsage(cgroup), null);
    await writeFile(join(cgroup, 'memory.current'), `${155 * MiB}\n`);
    assert.equal(readMemoryUsage(cgroup), null);
  });
});
