import { deepEqual, equal } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LinkedSet } from '../../../src/limits/linked-set.ts';
import type { Linked } from '../../../src/limits/linked-set.ts';
import { Dice } from '../../support/dice.ts';

class Member implements Linked<Member> {
  readonly name: number;
  previous: Member | null = null;
  next: Member | null = null;

  constructor(name: number) {
    this.name = name;
  }
}

const names = (set: LinkedSet<Member>): number[] => [...set].map(({ name }) => name);

describe('a linked set', () => {
  test('behaves like a Set for any sequence of additions and deletions', () => {
    for (let seed = 1; seed <= 200; seed += 1) {
      const dice = new Dice(seed);
      const members = Array.from({ length: 8 }, (_, name) => new Member(name));
      const set = new LinkedSet<Member>();
      const expected = new Set<Member>();
      for (let step = 0; step < 60; step += 1) {
        const member = members[dice.between(0, members.length - 1)];
        if (member === undefined) throw new Error('no member');
        equal(set.has(member), expected.has(member));
        if (dice.happens(0.5)) {
          set.add(member);
          expected.add(member);
        } else {
          equal(set.delete(member), expected.delete(member));
        }
        deepEqual(
          names(set),
          [...expected].map(({ name }) => name),
        );
        equal(set.size, expected.size);
        equal(set.first, [...expected][0] ?? null);
      }
    }
  });

  test('removes the current member while it is iterated', () => {
    const set = new LinkedSet<Member>();
    for (let name = 0; name < 4; name += 1) set.add(new Member(name));
    const seen: number[] = [];
    for (const member of set) {
      seen.push(member.name);
      if (member.name % 2 === 0) set.delete(member);
    }
    deepEqual(seen, [0, 1, 2, 3]);
    deepEqual(names(set), [1, 3]);
  });

  test('leaves no reference from a removed member to another one', () => {
    const set = new LinkedSet<Member>();
    const members = [0, 1, 2].map((name) => new Member(name));
    for (const member of members) set.add(member);
    for (const member of members) set.delete(member);
    deepEqual(
      members.map(({ previous, next }) => [previous, next]),
      [
        [null, null],
        [null, null],
        [null, null],
      ],
    );
  });
});
