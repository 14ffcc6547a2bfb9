import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { scratch } from '../support/scratch.ts';
import { ACTORS } from './actors.ts';
import { soak } from './soak.ts';
import { findLeaks } from './verdict.ts';
import type { IdleSample } from './verdict.ts';

test('a short soak finds no leak', async (context) => {
  const directory = await scratch(context);
  const print = (line: string): void => context.diagnostic(line);
  const { leaks, actions } = await soak({ ms: 0, roundMs: 500, directory, print });
  assert.deepEqual(leaks, []);
  assert.deepEqual(Object.keys(actions).toSorted(), Object.keys(ACTORS).toSorted());
});

describe('the verdict of a soak', () => {
  const idleSample: IdleSample = { residentMiB: 100, heapMiB: 10, fdCount: 30, resources: { Timeout: 3 } };

  /** Nine samples that each differ from an idle one. */
  function verdict(change: (index: number) => Partial<IdleSample>): string[] {
    return findLeaks(Array.from({ length: 9 }, (_, index) => ({ ...idleSample, ...change(index) })));
  }

  test('is clean if memory varies and counts stay the same', () => {
    assert.deepEqual(
      verdict((index) => ({ heapMiB: 10 + (index % 3) * 2, residentMiB: 100 + (index % 3) * 50 })),
      [],
    );
  });

  test('is clean if there is less than at first', () => {
    assert.deepEqual(
      verdict((index) => ({ resources: { Timeout: index === 0 ? 3 : 2 }, heapMiB: 20 - index })),
      [],
    );
  });

  test('names each leak', () => {
    assert.deepEqual(
      verdict((index) => ({
        heapMiB: 10 + index * 0.2,
        residentMiB: 100 + index * 5,
        fdCount: index === 8 ? 31 : 30,
        resources: { Timeout: index < 7 ? 3 : 4 },
      })),
      [
        'descriptors: 30, 30, 30, 30, 30, 30, 30, 30, 31',
        'Timeout: 3, 3, 3, 3, 3, 3, 3, 4, 4',
        'heap: from 10.2 to 11.4 MiB',
        'RSS: from 105.0 to 135.0 MiB',
      ],
    );
  });

  test('needs at least three samples', () => {
    assert.throws(() => findLeaks([idleSample, idleSample]), /too few/u);
  });
});
