import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { TRANSITIONS, transition } from '../../../src/protocol/session.ts';
import type { SessionEffect, SessionEvent, SessionState, Transition } from '../../../src/protocol/session.ts';

/** The legal events of each state. All others must throw. */
const LEGAL_EVENTS: Readonly<Record<SessionState, readonly SessionEvent[]>> = {
  handshake: [
    ...(['waits', 'matched', 'bad-line', 'overlong-line', 'text', 'end', 'close', 'timed-out'] as const),
    ...(['busy', 'over-quota', 'draining', 'drain', 'aborted'] as const),
  ],
  waiting: [
    ...(['matched', 'early-bytes', 'text', 'superseded', 'end', 'close', 'timed-out'] as const),
    ...(['over-quota', 'redirected', 'not-owner', 'drain', 'evicted', 'aborted'] as const),
  ],
  paired: [
    ...(['text', 'partner-gone', 'end', 'close', 'timed-out', 'byte-limit', 'drain', 'aborted'] as const),
    ...(['stalled', 'partner-reset'] as const),
  ],
  'connecting-upstream': [
    ...(['waits', 'matched', 'early-bytes', 'text', 'partner-gone', 'end', 'close'] as const),
    ...(['busy', 'over-quota', 'forwarded', 'drain', 'aborted'] as const),
  ],
  forwarding: ['text', 'partner-gone', 'end', 'close', 'byte-limit', 'drain', 'stalled', 'aborted'],
  closing: ['text', 'partner-gone', 'end', 'close', 'timed-out', 'drain', 'stalled', 'aborted'],
  closed: ['text', 'partner-gone', 'end', 'close', 'timed-out', 'drain', 'aborted'],
};

const STATES: readonly SessionState[] = [
  'handshake',
  'waiting',
  'paired',
  'connecting-upstream',
  'forwarding',
  'closing',
  'closed',
];
const EVENTS = [...new Set(STATES.flatMap((state) => LEGAL_EVENTS[state]))];

/** Transitions after which the session continues, with the reply that the client gets. */
const CONTINUES: Readonly<Record<string, readonly [SessionState, reply: string | null]>> = {
  'handshake waits': ['waiting', null],
  'handshake matched': ['paired', 'ok'],
  'waiting matched': ['paired', 'ok'],
  'waiting redirected': ['connecting-upstream', null],
  'paired drain': ['paired', null],
  'connecting-upstream waits': ['waiting', null],
  'connecting-upstream matched': ['paired', 'ok'],
  'connecting-upstream forwarded': ['forwarding', 'ok'],
  'forwarding drain': ['forwarding', null],
};

/** The reply before a close. All other closes are silent. */
const REPLIES: Readonly<Record<string, string>> = {
  'handshake bad-line': 'bad handshake',
  'handshake busy': 'busy',
  'handshake over-quota': 'over quota',
  'handshake draining': 'shutting down',
  'handshake drain': 'shutting down',
  'waiting early-bytes': 'impatient',
  'waiting over-quota': 'over quota',
  'waiting not-owner': 'elsewhere',
  'waiting drain': 'shutting down',
  'waiting evicted': 'busy',
  'connecting-upstream early-bytes': 'impatient',
  'connecting-upstream busy': 'busy',
  'connecting-upstream over-quota': 'over quota',
  'connecting-upstream drain': 'shutting down',
};

/** Failed handshakes, by what is counted. */
const FAILURES: Readonly<Record<string, string>> = {
  'handshake bad-line': 'bad_line',
  'handshake overlong-line': 'overlong_line',
  'handshake text': 'text',
  'handshake end': 'disconnected',
  'handshake close': 'disconnected',
  'handshake timed-out': 'timeout',
  'waiting early-bytes': 'early_bytes',
  'waiting text': 'early_bytes',
};

/** Ends without a record, because the client was never accepted or another relay has it. */
const WITHOUT_RECORD = new Set([
  'handshake busy',
  'handshake over-quota',
  'handshake draining',
  'waiting not-owner',
]);

/** The mood of a record, by wire.md. */
function moodOf(state: SessionState, event: SessionEvent): string | null {
  if (WITHOUT_RECORD.has(`${state} ${event}`)) return null;
  if (state === 'handshake') return event === 'bad-line' ? 'errory' : 'empty';
  if (state === 'paired') return event === 'partner-gone' || event === 'partner-reset' ? null : 'happy';
  if (state !== 'waiting') return null;
  if (event === 'superseded') return 'redundant';
  return event === 'early-bytes' || event === 'text' ? 'impatient' : 'lonely';
}

function closeCodeOf(state: SessionState, event: SessionEvent): number {
  if (event === 'text') return 1003;
  const reply = REPLIES[`${state} ${event}`];
  return reply === 'busy' || reply === 'over quota' || reply === 'shutting down' ? 1013 : 1000;
}

/** Frees the kernel's buffers at once. */
const isReset = (event: SessionEvent): boolean => event === 'stalled' || event === 'partner-reset';
const isEnded = (state: SessionState): boolean => state === 'closing' || state === 'closed';
const isUpstream = (state: SessionState): boolean =>
  state === 'connecting-upstream' || state === 'forwarding';

function has({ effects }: Transition, kind: SessionEffect['kind']): boolean {
  return effects.some((effect) => effect.kind === kind);
}

/** The values of all effects of a kind: replies, codes, moods or failures. */
function valuesOf({ effects }: Transition, kind: SessionEffect['kind']): unknown[] {
  return effects.filter((effect) => effect.kind === kind).map((effect) => Object.values(effect)[1]);
}

const listOf = (value: unknown): unknown[] => (value === null || value === undefined ? [] : [value]);

describe('the table', () => {
  test('has all states', () => {
    assert.deepEqual(Object.keys(TRANSITIONS).toSorted(), [...STATES].toSorted());
  });

  for (const state of STATES) {
    test(`accepts the legal events in state ${state}, and throws for all others`, () => {
      assert.deepEqual(Object.keys(TRANSITIONS[state]).toSorted(), [...LEGAL_EVENTS[state]].toSorted());
      for (const event of EVENTS) {
        if (LEGAL_EVENTS[state].includes(event)) {
          transition(state, event);
          continue;
        }
        assert.throws(() => transition(state, event), {
          message: `session: illegal event "${event}" in state "${state}"`,
        });
      }
    });
  }

  test('accepts all events of a client, its partner or a stopping relay that can occur at any time', () => {
    for (const state of STATES) {
      for (const event of ['text', 'end', 'close', 'drain', 'aborted'] as const)
        assert.ok(transition(state, event), `${state} ${event}`);
    }
    for (const state of ['paired', 'forwarding', 'closing', 'closed'] as const)
      assert.ok(transition(state, 'partner-gone'));
  });
});

/** Every legal transition out of a state in which the session has not ended. */
const FROM_OPEN_STATES = STATES.filter((state) => !isEnded(state)).flatMap((state) =>
  LEGAL_EVENTS[state].map((event) => ({ state, event, name: `${state} ${event}` })),
);
const ENDS = FROM_OPEN_STATES.filter(({ name }) => !(name in CONTINUES));

describe('a session', () => {
  test('continues in the right state and with the right reply, and has no other effect except that it may leave the rendezvous', () => {
    for (const { state, event, name } of FROM_OPEN_STATES) {
      const expected = CONTINUES[name];
      if (expected === undefined) continue;
      const [next, reply] = expected;
      const effects = [
        ...(name === 'waiting redirected' ? [{ kind: 'leave-rendezvous' }] : []),
        ...(reply === null ? [] : [{ kind: 'reply', reply }]),
      ];
      assert.deepEqual(transition(state, event), { next, effects }, name);
    }
  });

  test('is closed if its connection is closed, aborted or reset, and closing after every other end', () => {
    for (const { state, event, name } of ENDS) {
      const isAborted = event === 'aborted' || event === 'evicted';
      const isDisconnected = event === 'close' || isAborted || isReset(event);
      assert.equal(transition(state, event).next, isDisconnected ? 'closed' : 'closing', name);
      assert.equal(has(transition(state, event), 'abort'), isAborted, name);
      assert.equal(has(transition(state, event), 'reset'), isReset(event), name);
    }
  });

  test('gets the right reply, and the right close code if its connection is still open', () => {
    for (const { state, event, name } of ENDS) {
      const result = transition(state, event);
      assert.deepEqual(valuesOf(result, 'reply'), listOf(REPLIES[name]), name);
      const isAtOnce = event === 'close' || event === 'aborted' || isReset(event);
      const codes = isAtOnce ? [] : [closeCodeOf(state, event)];
      assert.deepEqual(valuesOf(result, 'close-gracefully'), codes, name);
    }
  });

  test('has one record with the right mood, or none if it was rejected, forwarded or ended by its partner', () => {
    for (const { state, event, name } of ENDS)
      assert.deepEqual(valuesOf(transition(state, event), 'record'), listOf(moodOf(state, event)), name);
  });

  test('counts a failed handshake by its kind', () => {
    for (const { state, event, name } of ENDS)
      assert.deepEqual(valuesOf(transition(state, event), 'count-failure'), listOf(FAILURES[name]), name);
  });

  test('is counted as forwarded if another relay has its record', () => {
    for (const { state, event, name } of ENDS) {
      const isForwarded = isUpstream(state) || event === 'not-owner';
      assert.equal(has(transition(state, event), 'count-forwarded'), isForwarded, name);
    }
  });

  test('closes the link if the owner relay does not know of its end', () => {
    for (const { state, event, name } of ENDS) {
      const isKnown = event === 'partner-gone' || event === 'early-bytes';
      const isLinkClosed = isUpstream(state) && !isKnown;
      const effects = transition(state, event);
      assert.equal(has(effects, 'close-upstream'), isLinkClosed && !isReset(event), name);
      assert.equal(has(effects, 'reset-upstream'), isLinkClosed && isReset(event), name);
    }
  });

  test('leaves the rendezvous when it stops waiting, unless the rendezvous has removed it', () => {
    for (const { state, event, name } of ENDS) {
      const isWaiting = state === 'waiting' && event !== 'superseded';
      assert.equal(has(transition(state, event), 'leave-rendezvous'), isWaiting, name);
    }
  });

  test('closes its partner when a pair ends, unless the partner has ended it', () => {
    for (const { state, event, name } of ENDS) {
      const isFirst = state === 'paired' && event !== 'partner-gone' && event !== 'partner-reset';
      assert.equal(has(transition(state, event), 'close-partner'), isFirst && !isReset(event), name);
      assert.equal(has(transition(state, event), 'reset-partner'), isFirst && isReset(event), name);
    }
  });

  test('leaves the rendezvous or the link first, then gets its reply, is closed, and is counted last', () => {
    const ORDER = [
      ...(['leave-rendezvous', 'close-upstream', 'reset-upstream', 'reply', 'close-gracefully'] as const),
      ...([
        'abort',
        'reset',
        'close-partner',
        'reset-partner',
        'record',
        'count-forwarded',
        'count-failure',
      ] as const),
    ];
    for (const { state, event, name } of FROM_OPEN_STATES) {
      const kinds = transition(state, event).effects.map(({ kind }) => kind);
      assert.deepEqual(
        kinds,
        ORDER.filter((kind) => kinds.includes(kind)),
        name,
      );
    }
  });

  test('that has ended changes only when its connection is closed, and is not counted again', () => {
    for (const state of ['closing', 'closed'] as const) {
      for (const event of LEGAL_EVENTS[state]) {
        const isDisconnected = event === 'close' || event === 'aborted' || event === 'stalled';
        const kinds = [...(event === 'aborted' ? ['abort'] : []), ...(event === 'stalled' ? ['reset'] : [])];
        const effects = state === 'closing' ? kinds.map((kind) => ({ kind })) : [];
        assert.deepEqual(
          transition(state, event),
          { next: isDisconnected ? 'closed' : state, effects },
          `${state} ${event}`,
        );
      }
    }
  });
});

/** A session, with the effects of its events. */
class TestSession {
  state: SessionState = 'handshake';
  readonly moods: unknown[] = [];
  forwarded = 0;
  partner: TestSession | null = null;
  endedByPartner = false;
  isRejected = false;

  dispatch(...events: readonly SessionEvent[]): this {
    for (const event of events) {
      const result = transition(this.state, event);
      const moods = valuesOf(result, 'record');
      if (this.state === 'paired' && (event === 'partner-gone' || event === 'partner-reset'))
        this.endedByPartner = true;
      this.isRejected ||= this.state === 'handshake' && result.next === 'closing' && moods.length === 0;
      this.state = result.next;
      this.moods.push(...moods);
      if (has(result, 'count-forwarded')) this.forwarded += 1;
      if (has(result, 'close-partner')) this.partner?.dispatch('partner-gone');
      if (has(result, 'reset-partner')) this.partner?.dispatch('partner-reset');
    }
    return this;
  }
}

describe('any sequence of events', () => {
  test('of a forwarded client whose owner relay fails continues at its own relay', () => {
    const lonely = new TestSession().dispatch(
      'waits',
      'redirected',
      'waits',
      'redirected',
      'waits',
      'timed-out',
      'close',
    );
    assert.deepEqual([lonely.state, lonely.moods, lonely.forwarded], ['closed', ['lonely'], 0]);
    const forwarded = new TestSession().dispatch('waits', 'redirected', 'forwarded', 'drain', 'end', 'close');
    assert.deepEqual([forwarded.state, forwarded.moods, forwarded.forwarded], ['closed', [], 1]);
  });

  test('of one session ends in closed, and is recorded, rejected, forwarded or ended by its partner', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...EVENTS), { maxLength: 30 }), (events) => {
        const session = new TestSession();
        for (const event of events) {
          if (!LEGAL_EVENTS[session.state].includes(event)) continue;
          session.dispatch(event);
          assert.ok(session.moods.length <= 1);
        }
        session.dispatch('close');
        assert.equal(session.state, 'closed');
        const others = Number(session.endedByPartner || session.isRejected);
        assert.equal(session.moods.length + session.forwarded + others, 1);
      }),
      { numRuns: 1000 },
    );
  });

  test('of a pair has one record, for any end by either side', () => {
    const step = fc.tuple(
      fc.boolean(),
      fc.constantFrom<SessionEvent>('text', 'end', 'close', 'timed-out', 'drain', 'stalled', 'aborted'),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 10 }), (steps) => {
        const first = new TestSession().dispatch('waits');
        const second = new TestSession();
        first.partner = second;
        second.partner = first;
        first.dispatch('matched');
        second.dispatch('matched');
        for (const [isFirst, event] of steps) {
          const session = isFirst ? first : second;
          // A closed session has no buffers.
          if (event !== 'stalled' || session.state !== 'closed') session.dispatch(event);
        }
        first.dispatch('close');
        second.dispatch('close');
        assert.deepEqual([...first.moods, ...second.moods], ['happy']);
        assert.deepEqual([first.state, second.state], ['closed', 'closed']);
      }),
    );
  });
});
