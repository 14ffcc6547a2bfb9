import * as fc from 'fast-check';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EvictionIndex } from '../../../src/limits/eviction-index.ts';
import type { Entry } from '../../../src/limits/eviction-index.ts';

function indexOf(members: readonly (readonly [key: string | null, member: string])[]): EvictionIndex<string> {
  const index = new EvictionIndex<string>();
  for (const [key, member] of members) index.add(key, member);
  return index;
}

describe('an eviction index', () => {
  test('finds the oldest member of the largest network', () => {
    const members = [
      ['b', 'b1'],
      ['a', 'a1'],
      ['a', 'a2'],
      ['a', 'a3'],
    ] as const;
    assert.equal(indexOf(members).victimFor('b'), 'a1');
    assert.equal(indexOf(members).victimFor('c'), 'a1');
  });

  test('finds no member to evict for the largest network, or for one that has one member less', () => {
    const index = indexOf([
      ['a', 'a1'],
      ['a', 'a2'],
      ['b', 'b1'],
    ]);
    assert.equal(index.victimFor('a'), null);
    assert.equal(index.victimFor('b'), null);
  });

  test('finds a member to evict for a network without members, even if no network has more than one', () => {
    const index = indexOf([
      ['a', 'a1'],
      ['b', 'b1'],
    ]);
    assert.equal(index.victimFor('c'), 'a1');
    assert.equal(new EvictionIndex<string>().victimFor('c'), null);
  });

  test('evicts no member of an unknown network, and counts them as one network', () => {
    const unknown = ['1', '2', '3', '4'].map((member) => [null, member] as const);
    const index = indexOf([...unknown, ['a', 'a1'], ['a', 'a2'], ['a', 'a3']]);
    assert.equal(index.victimFor('b'), 'a1');
    assert.equal(index.victimFor(null), null);
    for (const member of ['a4', 'a5', 'a6']) index.add('a', member);
    assert.equal(index.victimFor(null), 'a1');
  });

  test('behaves like a list of members for any additions and removals', () => {
    const keys = fc.constantFrom('a', 'b', 'c', 'd', null);
    const step = fc.oneof(
      fc.record({ kind: fc.constant('add' as const), key: keys }),
      fc.record({ kind: fc.constant('remove' as const), at: fc.nat() }),
      fc.record({ kind: fc.constant('evict' as const), key: keys }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const index = new EvictionIndex<number>();
        const model: {
          readonly key: string | null;
          readonly member: number;
          readonly entry: Entry<number>;
        }[] = [];
        let next = 0;
        const sizeOf = (key: string | null): number => model.filter((one) => one.key === key).length;
        for (const taken of steps) {
          if (taken.kind === 'add') {
            next += 1;
            model.push({ key: taken.key, member: next, entry: index.add(taken.key, next) });
          } else if (taken.kind === 'remove' && model.length > 0) {
            const [removed] = model.splice(taken.at % model.length, 1);
            if (removed !== undefined) index.remove(removed.entry);
          } else if (taken.kind === 'evict') {
            const victim = index.victimFor(taken.key);
            const own = sizeOf(taken.key);
            const largest = Math.max(
              0,
              ...model.filter(({ key }) => key !== null).map(({ key }) => sizeOf(key)),
            );
            if (largest <= (own === 0 && taken.key !== null ? 0 : own + 1)) {
              assert.equal(victim, null);
            } else {
              const found = model.find(({ member }) => member === victim);
              assert.ok(found !== undefined && found.key !== null);
              assert.equal(sizeOf(found.key), largest);
              assert.equal(model.find(({ key }) => key === found.key)?.member, victim, 'the oldest');
            }
          }
        }
      }),
    );
  });
});
