import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { TRANSITIONS, transition } from '../../src/protocol/session.ts';
import type { SessionEffect, SessionEvent, SessionState, Transition } from '../../src/protocol/session.ts';

const STATES = [
  'handshake',
  'waiting',
  'paired',
  'calling',
  'carried',
  'closing',
  'closed',
] as const satisfies readonly SessionState[];
const EVENTS = [
  'waits',
  'matched',
  'bad-line',
  'overlong-line',
  'early-bytes',
  'text',
  'superseded',
  'partner-gone',
  'left',
  'lost',
  'timed-out',
  'busy',
  'over-quota',
  'stopping',
  'called-away',
  'carried',
  'elsewhere',
  'used-up',
  'shutdown',
  'evicted',
  'cut',
] as const satisfies readonly SessionEvent[];

const NEVER = 'never';

/**
 * Every cell as wire.md and the comments on State, Event and Effect have it: the next state, a colon, the
 * effects in their order. Written by hand, and not to be made to agree by copying.
 */
const EXPECTED: Readonly<Record<SessionState, Readonly<Record<SessionEvent, string>>>> = {
  handshake: {
    waits: 'waiting:',
    matched: 'paired: reply ok',
    'bad-line': 'closing: reply bad handshake, finish 1000, record errory',
    'overlong-line': 'closing: finish 1000, record empty',
    'early-bytes': NEVER,
    text: 'closing: finish 1003, record empty',
    superseded: NEVER,
    'partner-gone': NEVER,
    left: 'closing: finish 1000, record empty',
    lost: 'closed: record empty',
    'timed-out': 'closing: finish 1000, record empty',
    busy: 'closing: reply busy, finish 1013',
    'over-quota': 'closing: reply over quota, finish 1013',
    stopping: 'closing: reply shutting down, finish 1013',
    'called-away': NEVER,
    carried: NEVER,
    elsewhere: NEVER,
    'used-up': NEVER,
    shutdown: 'closing: reply shutting down, finish 1013, record empty',
    evicted: NEVER,
    cut: 'closed: drop, record empty',
  },
  waiting: {
    waits: NEVER,
    matched: 'paired: reply ok',
    'bad-line': NEVER,
    'overlong-line': NEVER,
    'early-bytes': 'closing: leave, reply impatient, finish 1000, record impatient',
    text: 'closing: leave, finish 1003, record impatient',
    superseded: 'closing: finish 1000, record redundant',
    'partner-gone': NEVER,
    left: 'closing: leave, finish 1000, record lonely',
    lost: 'closed: leave, record lonely',
    'timed-out': 'closing: leave, finish 1000, record lonely',
    busy: NEVER,
    'over-quota': 'closing: leave, reply over quota, finish 1013, record lonely',
    stopping: NEVER,
    'called-away': 'calling: leave',
    carried: NEVER,
    elsewhere: 'closing: leave, reply elsewhere, finish 1000',
    'used-up': NEVER,
    shutdown: 'closing: leave, reply shutting down, finish 1013, record lonely',
    evicted: 'closed: leave, reply busy, finish 1013, drop, record lonely',
    cut: 'closed: leave, drop, record lonely',
  },
  paired: {
    waits: NEVER,
    matched: NEVER,
    'bad-line': NEVER,
    'overlong-line': NEVER,
    'early-bytes': NEVER,
    text: 'closing: finish 1003, end-partner, record happy',
    superseded: NEVER,
    'partner-gone': 'closing: finish 1000',
    left: 'closing: finish 1000, end-partner, record happy',
    lost: 'closed: end-partner, record happy',
    'timed-out': 'closing: finish 1000, end-partner, record happy',
    busy: NEVER,
    'over-quota': NEVER,
    stopping: NEVER,
    'called-away': NEVER,
    carried: NEVER,
    elsewhere: NEVER,
    'used-up': 'closing: finish 1000, end-partner, record happy',
    shutdown: 'paired:',
    evicted: NEVER,
    cut: 'closed: drop, end-partner, record happy',
  },
  calling: {
    waits: 'waiting:',
    matched: 'paired: reply ok',
    'bad-line': NEVER,
    'overlong-line': NEVER,
    'early-bytes': 'closing: reply impatient, finish 1000',
    text: 'closing: hang-up, finish 1003',
    superseded: NEVER,
    'partner-gone': 'closing: finish 1000',
    left: 'closing: hang-up, finish 1000',
    lost: 'closed: hang-up',
    'timed-out': NEVER,
    busy: 'closing: hang-up, reply busy, finish 1013',
    'over-quota': 'closing: hang-up, reply over quota, finish 1013',
    stopping: NEVER,
    'called-away': NEVER,
    carried: 'carried: reply ok',
    elsewhere: NEVER,
    'used-up': NEVER,
    shutdown: 'closing: hang-up, reply shutting down, finish 1013',
    evicted: NEVER,
    cut: 'closed: hang-up, drop',
  },
  carried: {
    waits: NEVER,
    matched: NEVER,
    'bad-line': NEVER,
    'overlong-line': NEVER,
    'early-bytes': NEVER,
    text: 'closing: hang-up, finish 1003',
    superseded: NEVER,
    'partner-gone': 'closing: finish 1000',
    left: 'closing: hang-up, finish 1000',
    lost: 'closed: hang-up',
    'timed-out': NEVER,
    busy: NEVER,
    'over-quota': NEVER,
    stopping: NEVER,
    'called-away': NEVER,
    carried: NEVER,
    elsewhere: NEVER,
    'used-up': 'closing: hang-up, finish 1000',
    shutdown: 'carried:',
    evicted: NEVER,
    cut: 'closed: hang-up, drop',
  },
  closing: {
    waits: NEVER,
    matched: NEVER,
    'bad-line': NEVER,
    'overlong-line': NEVER,
    'early-bytes': NEVER,
    text: 'closing:',
    superseded: NEVER,
    'partner-gone': 'closing:',
    left: 'closing:',
    lost: 'closed:',
    'timed-out': 'closing:',
    busy: NEVER,
    'over-quota': NEVER,
    stopping: NEVER,
    'called-away': NEVER,
    carried: NEVER,
    elsewhere: NEVER,
    'used-up': NEVER,
    shutdown: 'closing:',
    evicted: NEVER,
    cut: 'closed: drop',
  },
  closed: {
    waits: NEVER,
    matched: NEVER,
    'bad-line': NEVER,
    'overlong-line': NEVER,
    'early-bytes': NEVER,
    text: 'closed:',
    superseded: NEVER,
    'partner-gone': 'closed:',
    left: 'closed:',
    lost: 'closed:',
    'timed-out': 'closed:',
    busy: NEVER,
    'over-quota': NEVER,
    stopping: NEVER,
    'called-away': NEVER,
    carried: NEVER,
    elsewhere: NEVER,
    'used-up': NEVER,
    shutdown: 'closed:',
    evicted: NEVER,
    cut: 'closed:',
  },
};

function describeEffect(effect: SessionEffect): string {
  if (effect.kind === 'reply') return `reply ${effect.reply}`;
  if (effect.kind === 'finish') return `finish ${effect.code}`;
  if (effect.kind === 'record') return `record ${effect.mood}`;
  return effect.kind;
}

function describeTransition({ next, effects }: Transition): string {
  return `${next}: ${effects.map(describeEffect).join(', ')}`.trimEnd();
}

const recordsOf = ({ effects }: Transition): number =>
  effects.filter((effect) => effect.kind === 'record').length;

for (const state of STATES) {
  describe(`in state ${state}`, () => {
    for (const event of EVENTS) {
      const expected = EXPECTED[state][event];
      if (expected === NEVER) {
        test(`${event} cannot happen, and an error says so`, () => {
          assert.throws(
            () => transition(state, event),
            (error: unknown) =>
              error instanceof Error &&
              error.message.includes(`"${event}"`) &&
              error.message.includes(`"${state}"`),
          );
        });
      } else {
        test(`${event} leads to ${expected}`, () => {
          assert.equal(describeTransition(transition(state, event)), expected);
        });
      }
    }
  });
}

describe('the table', () => {
  test('has the states and events of this file and no others', () => {
    assert.deepEqual(Object.keys(TRANSITIONS).toSorted(), [...STATES].toSorted());
    for (const state of STATES)
      assert.deepEqual(Object.keys(TRANSITIONS[state]).toSorted(), [...EVENTS].toSorted());
  });

  /** Ends of a connection that was never let in, or is another relay's. */
  const REFUSALS: ReadonlySet<string> = new Set([
    'handshake busy',
    'handshake over-quota',
    'handshake stopping',
    'waiting elsewhere',
  ]);

  for (const from of ['handshake', 'waiting', 'paired'] as const) {
    test(`records one mood wherever the story of a connection in ${from} ends`, () => {
      let summaries = 0;
      for (const event of EVENTS) {
        const found = TRANSITIONS[from][event];
        if (found === null) continue;
        const ends = found.next === 'closing' || found.next === 'closed';
        const byPartner = from === 'paired' && event === 'partner-gone';
        const isRefused = REFUSALS.has(`${from} ${event}`);
        assert.equal(recordsOf(found), ends && !byPartner && !isRefused ? 1 : 0, event);
        if (ends) summaries += 1;
      }
      assert.ok(summaries >= 5, 'the story can end in several ways');
    });
  }

  test('records nothing of a connection that is passed on, and hangs up wherever the owner can not know of its end', () => {
    for (const from of ['calling', 'carried'] as const) {
      for (const event of EVENTS) {
        const found = TRANSITIONS[from][event];
        if (found === null) continue;
        assert.equal(recordsOf(found), 0, `${from} ${event}`);
        const ends = found.next === 'closing' || found.next === 'closed';
        const isTold = event === 'partner-gone' || event === 'early-bytes';
        const hangsUp = found.effects.some((effect) => effect.kind === 'hang-up');
        assert.equal(hangsUp, ends && !isTold, `${from} ${event}`);
      }
    }
  });

  test('records nothing once a connection is closing', () => {
    for (const from of ['closing', 'closed'] as const) {
      for (const event of EVENTS) {
        const found = TRANSITIONS[from][event];
        assert.deepEqual(
          found?.effects.filter((effect) => effect.kind !== 'drop') ?? [],
          [],
          `${from} ${event}`,
        );
      }
    }
  });

  test('takes a connection out of the rendezvous wherever it stops waiting of itself', () => {
    for (const event of EVENTS) {
      const found = TRANSITIONS.waiting[event];
      if (found === null) continue;
      const leaves = found.effects.some((effect) => effect.kind === 'leave');
      // The rendezvous has let go of these two already.
      assert.equal(leaves, event !== 'matched' && event !== 'superseded', event);
    }
  });

  test('tells the partner of every end of a paired connection but the one that comes from there', () => {
    for (const event of EVENTS) {
      const found = TRANSITIONS.paired[event];
      if (found === null || found.next === 'paired') continue;
      const tells = found.effects.some((effect) => effect.kind === 'end-partner');
      assert.equal(tells, event !== 'partner-gone', event);
    }
  });
});

/** A connection that takes what happens to it, and counts what it records. */
class Story {
  state: SessionState = 'handshake';
  records = 0;
  partner: Story | null = null;
  endedByPartner = false;
  isRefused = false;
  isPassedOn = false;

  take(event: SessionEvent): void {
    const found = transition(this.state, event);
    if (this.state === 'paired' && event === 'partner-gone') this.endedByPartner = true;
    this.isRefused ||= this.state === 'handshake' && found.next === 'closing' && recordsOf(found) === 0;
    const isLink = this.state === 'waiting' && event === 'elsewhere';
    const ends = found.next === 'closing' || found.next === 'closed';
    this.isPassedOn ||= isLink || (ends && (this.state === 'calling' || this.state === 'carried'));
    this.state = found.next;
    this.records += recordsOf(found);
    if (found.effects.some((effect) => effect.kind === 'end-partner')) this.partner?.take('partner-gone');
  }

  /** Takes what can happen, and passes over what can't. */
  takeIfPossible(event: SessionEvent): void {
    if (EXPECTED[this.state][event] !== NEVER) this.take(event);
  }
}

describe('any story', () => {
  test('of one connection has one record at most, and ends in closed', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...EVENTS), { maxLength: 30 }), (events) => {
        const story = new Story();
        for (const event of events) {
          story.takeIfPossible(event);
          assert.ok(story.records <= 1);
        }
        story.take('lost');
        assert.equal(story.state, 'closed');
        assert.equal(story.records, story.endedByPartner || story.isRefused || story.isPassedOn ? 0 : 1);
      }),
      { numRuns: 1000 },
    );
  });

  test('of a pair has one record, whoever ends it and however', () => {
    const step = fc.tuple(
      fc.boolean(),
      fc.constantFrom<SessionEvent>('text', 'left', 'lost', 'timed-out', 'shutdown', 'cut'),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 10 }), (steps) => {
        const first = new Story();
        const second = new Story();
        first.take('waits');
        first.partner = second;
        second.partner = first;
        first.take('matched');
        second.take('matched');
        for (const [isFirst, event] of steps) (isFirst ? first : second).take(event);
        first.take('lost');
        second.take('lost');
        assert.equal(first.records + second.records, 1);
        assert.deepEqual([first.state, second.state], ['closed', 'closed']);
      }),
    );
  });
});
