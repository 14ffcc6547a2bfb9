import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { parseHandshake } from '../../../src/protocol/handshake.ts';
import { MAX_WAITERS_PER_TOKEN, Rendezvous } from '../../../src/protocol/rendezvous.ts';
import type { JoinResult } from '../../../src/protocol/rendezvous.ts';
import type { Side, Token } from '../../../src/protocol/messages.ts';

/** A token and a side that repeat these two letters. */
function parseLine(tokenLetter: string, sideLetter: string): { token: Token; side: Side } {
  const line = `please relay ${tokenLetter.repeat(64)} for side ${sideLetter.repeat(16)}\n`;
  const handshake = parseHandshake(Buffer.from(line));
  assert.ok(handshake.kind === 'relay' && handshake.side !== null);
  return { token: handshake.token, side: handshake.side };
}

const { token: T, side: A } = parseLine('t', 'a');
const { token: U, side: B } = parseLine('u', 'b');
const { side: C } = parseLine('v', 'c');

interface ClientLine {
  readonly token: Token;
  readonly side: Side | null;
}

/** A rendezvous that these clients, numbered from 0, have joined, with the result of the last one. */
function joined(...clients: readonly ClientLine[]): {
  rendezvous: Rendezvous<number>;
  last: JoinResult<number>;
} {
  const rendezvous = new Rendezvous<number>();
  let last: JoinResult<number> = { kind: 'waiting' };
  for (const [index, { token, side }] of clients.entries()) {
    last = rendezvous.join(token, side, index);
    rendezvous.checkConsistency();
  }
  return { rendezvous, last };
}

const WAITING = { kind: 'waiting' };
const paired = (partner: number, ...redundant: number[]): JoinResult<number> => ({
  kind: 'paired',
  partner,
  redundant,
});

describe('matching', () => {
  const first = { token: T, side: A };
  const unsided = { token: T, side: null };
  const cases: readonly (readonly [
    rule: string,
    clients: readonly ClientLine[],
    answer: JoinResult<number>,
  ])[] = [
    ['a client alone waits', [first], { kind: 'waiting' }],
    ['a client without a side waits alone', [unsided], { kind: 'waiting' }],
    ['equal tokens and different sides match', [first, { token: T, side: B }], paired(0)],
    ['equal tokens and equal sides do not match', [first, first], { kind: 'waiting' }],
    ['a side matches no side', [first, unsided], paired(0)],
    ['no side matches a side', [unsided, first], paired(0)],
    ['no side matches no side', [unsided, unsided], paired(0)],
    ['different tokens do not match', [first, { token: U, side: B }], { kind: 'waiting' }],
    ['different tokens do not match without sides', [unsided, { token: U, side: null }], { kind: 'waiting' }],
    [
      'of two waiting clients the newer is paired, the other is redundant',
      [first, first, unsided],
      paired(1, 0),
    ],
    ['all others are redundant', [first, first, first, { token: T, side: B }], paired(2, 0, 1)],
    [
      'waiting clients of another token are not redundant',
      [first, { token: U, side: A }, { token: T, side: B }],
      paired(0),
    ],
    ['after a match the token is free again', [first, { token: T, side: B }, first], { kind: 'waiting' }],
    ['after a match another match is possible', [unsided, unsided, unsided, unsided], paired(2)],
  ];
  for (const [rule, clients, answer] of cases) {
    test(rule, () => assert.deepEqual(joined(...clients).last, answer));
  }

  test('removes the oldest of too many clients that wait for one token', () => {
    const rendezvous = new Rendezvous<number>();
    for (let client = 0; client < MAX_WAITERS_PER_TOKEN; client += 1)
      assert.deepEqual(rendezvous.join(T, A, client), WAITING);
    assert.deepEqual(rendezvous.join(T, A, 100), { kind: 'replaced', oldest: 0 });
    assert.deepEqual(rendezvous.join(T, A, 101), { kind: 'replaced', oldest: 1 });
    assert.equal(rendezvous.waitingClients, MAX_WAITERS_PER_TOKEN);
    rendezvous.leave(T, 0);
    rendezvous.checkConsistency();
    const accepted = rendezvous.join(T, B, 102);
    assert.ok(accepted.kind === 'paired' && accepted.redundant.length === MAX_WAITERS_PER_TOKEN - 1);
    assert.equal(accepted.partner, 101);
    assert.deepEqual(accepted.redundant.slice(0, 2), [2, 3]);
  });

  test('preserves the age of a client that returns', () => {
    const starts = new Map([
      ['old', 10],
      ['new', 20],
      ['newest', 20],
    ]);
    const rendezvous = new Rendezvous<string>((client) => starts.get(client) ?? 0);
    for (const client of ['new', 'newest', 'old']) assert.deepEqual(rendezvous.join(T, A, client), WAITING);
    assert.deepEqual(rendezvous.join(T, B, 'partner'), {
      kind: 'paired',
      partner: 'newest',
      redundant: ['old', 'new'],
    });
  });

  test('removes a client that returns as the oldest of too many', () => {
    const rendezvous = new Rendezvous<number>((client) => client);
    for (let client = 1; client <= MAX_WAITERS_PER_TOKEN; client += 1) rendezvous.join(T, A, client);
    assert.deepEqual(rendezvous.join(T, A, 0), { kind: 'replaced', oldest: 0 });
    rendezvous.checkConsistency();
  });

  test('ends the wait of redundant clients', () => {
    const { rendezvous } = joined(first, first, { token: T, side: B });
    assert.equal(rendezvous.waitingClients, 0);
    assert.equal(rendezvous.waitingTokens, 0);
    assert.deepEqual(rendezvous.join(T, C, 9), WAITING);
  });
});

describe('the number of waiting clients', () => {
  test('is counted by client and by token', () => {
    const { rendezvous } = joined({ token: T, side: A }, { token: T, side: A }, { token: U, side: null });
    assert.equal(rendezvous.waitingClients, 3);
    assert.equal(rendezvous.waitingTokens, 2);
  });

  test('is 0 at first', () => {
    const { rendezvous } = joined();
    assert.equal(rendezvous.waitingClients, 0);
    assert.equal(rendezvous.waitingTokens, 0);
  });
});

describe('a client that leaves', () => {
  test('is not matched', () => {
    const { rendezvous } = joined({ token: T, side: A });
    rendezvous.leave(T, 0);
    rendezvous.checkConsistency();
    assert.equal(rendezvous.waitingClients, 0);
    assert.equal(rendezvous.waitingTokens, 0);
    assert.deepEqual(rendezvous.join(T, B, 1), WAITING);
  });

  test('lets the next client of its side wait', () => {
    const { rendezvous } = joined({ token: T, side: A }, { token: T, side: A });
    rendezvous.leave(T, 0);
    assert.equal(rendezvous.waitingTokens, 1);
    assert.deepEqual(rendezvous.join(T, B, 2), paired(1));
  });

  test('may leave twice, and after a match, without any effect on others', () => {
    const { rendezvous } = joined({ token: T, side: A }, { token: T, side: B }, { token: T, side: B });
    rendezvous.leave(T, 0);
    rendezvous.leave(T, 0);
    rendezvous.leave(T, 1);
    rendezvous.checkConsistency();
    assert.deepEqual(rendezvous.join(T, A, 3), paired(2));
  });

  test('is not removed through a token that it does not wait for', () => {
    const { rendezvous } = joined({ token: T, side: A }, { token: U, side: A });
    rendezvous.leave(U, 0);
    rendezvous.checkConsistency();
    assert.equal(rendezvous.waitingClients, 2);
  });
});

describe('the consistency check', () => {
  test('detects a client that waits under two tokens', () => {
    const rendezvous = new Rendezvous<string>();
    rendezvous.join(T, A, 'same');
    rendezvous.join(U, A, 'same');
    assert.throws(() => rendezvous.checkConsistency(), /a client waits twice/u);
  });

  test('detects a client that joins twice', () => {
    const rendezvous = new Rendezvous<string>();
    rendezvous.join(T, A, 'same');
    rendezvous.join(T, A, 'same');
    assert.throws(() => rendezvous.checkConsistency(), /a client waits twice/u);
  });
});

/** The rules of wire.md on matching, as a list that is searched from its end: the newest client is paired. */
class NaiveRendezvous {
  waiting: (ClientLine & { readonly client: number })[] = [];

  join(token: Token, side: Side | null, client: number): JoinResult<number> {
    const sameToken = this.waiting.filter((other) => other.token === token);
    const partner = sameToken.findLast(
      (other) => other.side !== side || other.side === null || side === null,
    );
    if (partner === undefined) {
      this.waiting.push({ token, side, client });
      const [oldest] = sameToken;
      if (oldest === undefined || sameToken.length < MAX_WAITERS_PER_TOKEN) return { kind: 'waiting' };
      this.leave(token, oldest.client);
      return { kind: 'replaced', oldest: oldest.client };
    }
    this.waiting = this.waiting.filter((other) => other.token !== token);
    const redundant = sameToken.filter((other) => other !== partner).map((other) => other.client);
    return { kind: 'paired', partner: partner.client, redundant };
  }

  leave(token: Token, client: number): void {
    this.waiting = this.waiting.filter((other) => other.token !== token || other.client !== client);
  }
}

test('any sequence of clients that join and leave has the same results as a list that follows wire.md', () => {
  const token = fc.constantFrom(T, U);
  const join = fc.record({ kind: fc.constant('join'), token, side: fc.constantFrom(A, B, C, A, null) });
  // `back` steps back from the newest client, so that it often hits waiting clients.
  const leave = fc.record({ kind: fc.constant('leave'), token, back: fc.nat({ max: 6 }) });
  const steps = fc.array(fc.oneof({ weight: 3, arbitrary: join }, { weight: 1, arbitrary: leave }), {
    maxLength: 60,
    size: 'max',
  });
  fc.assert(
    fc.property(steps, (allSteps) => {
      const real = new Rendezvous<number>();
      const model = new NaiveRendezvous();
      let clients = 0;
      for (const step of allSteps) {
        if ('side' in step) {
          clients += 1;
          assert.deepEqual(
            real.join(step.token, step.side, clients),
            model.join(step.token, step.side, clients),
          );
        } else {
          real.leave(step.token, clients - step.back);
          model.leave(step.token, clients - step.back);
        }
        real.checkConsistency();
        assert.equal(real.waitingClients, model.waiting.length);
        assert.equal(real.waitingTokens, new Set(model.waiting.map((one) => one.token)).size);
      }
    }),
    { numRuns: 500 },
  );
});
