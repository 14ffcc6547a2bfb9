import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { AdmissionControl } from '../../../src/sessions/admission-control.ts';
import type { AcceptedConnection } from '../../../src/sessions/admission-control.ts';
import type { SessionSummary } from '../../../src/sessions/client-session.ts';
import { SessionManager } from '../../../src/sessions/session-manager.ts';
import type { SessionManagerOptions } from '../../../src/sessions/session-manager.ts';
import type {
  ClientTransport,
  ClientTransportHandler,
  TransportKind,
} from '../../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { until } from '../../support/scratch.ts';
import { connectPair } from '../../support/test-client.ts';
import type { TestClient } from '../../support/test-client.ts';
import { TestRelay } from '../../support/test-relay.ts';

const noop = (): undefined => undefined;

/** A client without a connection. */
class FakeClient implements ClientTransport {
  readonly kind: TransportKind;
  bufferedBytes = 0;
  readonly deliveredBytes = 0;
  received = '';
  /** False: bytes for it have to be buffered. */
  keepsUp = true;
  /** `closing`: the relay has sent its FIN; `aborted`: it has closed the connection. */
  state: 'open' | 'closing' | 'aborted' | 'closed' = 'open';
  readonly pause = noop;
  readonly resume = noop;
  readonly limitReadSize = noop;
  readonly detectReset = noop;
  #handler: ClientTransportHandler | null = null;

  constructor(kind: TransportKind = 'tcp') {
    this.kind = kind;
  }

  start(handler: ClientTransportHandler): void {
    this.#handler = handler;
  }

  send(bytes: Uint8Array): boolean {
    assert.notEqual(this.state, 'closed', 'sent to a closed connection');
    this.received += Buffer.from(bytes).toString('latin1');
    return this.keepsUp;
  }

  closeGracefully(): void {
    if (this.state === 'open') this.state = 'closing';
  }

  abort(): void {
    if (this.state !== 'closed') this.state = 'aborted';
  }

  say(text: string): void {
    if (this.state === 'open') this.#handler?.onData(Buffer.from(text, 'latin1'));
  }

  catchUp(): void {
    this.keepsUp = true;
    if (this.state === 'open') this.#handler?.onWritable();
  }

  sayText(): void {
    if (this.state === 'open') this.#handler?.onText();
  }

  end(): void {
    if (this.state === 'open') this.#handler?.onEnd();
  }

  disconnect(): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.#handler?.onClose();
  }
}

/** Those that are needed more often are named more often. */
const ACTIONS = [
  ...(['connect', 'connect', 'name', 'name', 'name', 'data', 'text', 'end', 'disconnect'] as const),
  ...(['partial line', 'bad line', 'abort', 'evict', 'close waiting', 'close pairs', 'sweep'] as const),
  ...(['fall behind', 'catch up', 'end stalled'] as const),
];

/** A session manager with a clock of the test. */
class Fixture {
  now = 0;
  readonly sessions: SessionManager;
  readonly admission: AdmissionControl;
  readonly summaries: SessionSummary[] = [];
  readonly clients: FakeClient[] = [];
  readonly accepted: AcceptedConnection[] = [];

  constructor(options: Partial<SessionManagerOptions> = {}) {
    const monotonicClock = (): number => this.now;
    this.admission = new AdmissionControl({
      handshakeTimeoutMs: null,
      maxConnections: Number.POSITIVE_INFINITY,
      maxWaiting: null,
      proxies: null,
      addressLimit: null,
      wallClock: monotonicClock,
      monotonicClock,
    });
    this.sessions = new SessionManager({
      admission: this.admission,
      waitTimeoutMs: null,
      idleTimeoutMs: null,
      rateLimiter: null,
      maxPairBytes: null,
      monotonicClock,
      onSessionEnd: (summary) => this.summaries.push(summary),
      onInternalError: (error) => {
        throw error;
      },
      ...options,
    });
  }

  connect(kind: TransportKind = 'tcp'): FakeClient {
    const client = new FakeClient(kind);
    const accepted = this.admission.accept(null);
    assert.ok(accepted !== null);
    this.clients.push(client);
    this.accepted.push(accepted);
    this.sessions.accept(client, accepted);
    return client;
  }

  waiting(token: string): FakeClient {
    const client = this.connect();
    client.say(handshake(token, SIDE_A));
    return client;
  }

  pair(): readonly [FakeClient, FakeClient] {
    const token = newToken();
    const first = this.waiting(token);
    const second = this.connect();
    second.say(handshake(token, SIDE_B));
    assert.equal(this.sessions.pairs, this.sessions.liveCounts().connected / 2);
    return [first, second];
  }

  moods(): string[] {
    return this.summaries.map(({ mood }) => mood);
  }

  [Symbol.dispose](): void {
    this.sessions.close();
  }
}

/** Whether a promise has resolved by the next tick of the event loop. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([promise.then(() => true), nextTurn(false)]);
}

describe('the sessions', () => {
  test('have one outcome each and consistent counts, whatever their clients and the relay do', async () => {
    const TOKENS = [newToken(), newToken()];
    const step = fc.record({
      action: fc.constantFrom(...ACTIONS),
      client: fc.nat(),
      token: fc.constantFrom(...TOKENS),
      side: fc.constantFrom(SIDE_A, SIDE_B, null),
      kind: fc.constantFrom<TransportKind[]>('tcp', 'unix', 'websocket', 'link'),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
        using fixture = new Fixture();
        const { sessions, admission, clients, summaries } = fixture;
        let forwarded = 0;
        /** Clients that are evicted before they have named a token are rejected and have no record. */
        const rejected = new Set<FakeClient>();
        for (const { action, client: number, token, side, kind } of steps) {
          fixture.now += 1;
          const index = number % Math.max(1, clients.length);
          const client = clients[index];
          const accepted = fixture.accepted[index];
          if (action === 'connect') fixture.connect(kind);
          else if (action === 'close waiting') sessions.closeWaiting();
          else if (action === 'close pairs') sessions.closePairs();
          else if (action === 'sweep') sessions.sweep();
          else if (action === 'end stalled') await sessions.endStalled(0.5, 1);
          else if (action === 'catch up') client?.catchUp();
          else if (action === 'fall behind' && client !== undefined) client.keepsUp = false;
          else if (action === 'name') client?.say(handshake(token, side));
          else if (action === 'data') client?.say('data');
          else if (action === 'partial line') client?.say('please relay ');
          else if (action === 'bad line') client?.say('no handshake\n');
          else if (action === 'text') client?.sayText();
          else if (action === 'end') client?.end();
          else if (action === 'disconnect') client?.disconnect();
          else if (action === 'abort') accepted?.phase?.abort();
          else if (action === 'evict' && client?.state === 'open' && accepted !== undefined) {
            if (accepted.evictionState === 'handshake') rejected.add(client);
            accepted.phase?.evict();
          }
          // Work on all sessions is done in the next ticks.
          if (action.startsWith('close')) await nextTurn();
          sessions.checkConsistency();
          assert.ok(sessions.liveCounts().relayedBytes >= forwarded);
          forwarded = sessions.liveCounts().relayedBytes;
        }
        for (const client of clients) client.disconnect();
        sessions.checkConsistency();
        assert.deepEqual(sessions.liveCounts(), {
          connected: 0,
          waiting: 0,
          incompleteBytes: 0,
          relayedBytes: forwarded,
        });
        assert.equal(admission.connections, 0);
        const kinds = summaries.flatMap(({ transports }) => transports);
        const recorded = clients.filter((client) => !rejected.has(client));
        assert.deepEqual(kinds.toSorted(), recorded.map(({ kind }) => kind).toSorted());
        assert.equal(
          summaries.reduce((sum, { totalBytes }) => sum + totalBytes, 0),
          forwarded,
        );
        for (const { mood, transports, totalMs, waitingMs } of summaries) {
          assert.equal(transports.length, mood === 'happy' ? 2 : 1);
          assert.equal(waitingMs === null, mood !== 'happy');
          assert.ok((waitingMs ?? 0) <= totalMs);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('are closed by a limit on waiting clients or on pairs, and by no other', async () => {
    using fixture = new Fixture();
    const { sessions } = fixture;
    const waiting = fixture.waiting(newToken());
    const [first, second] = fixture.pair();
    const unnamed = fixture.connect();
    sessions.closeWaiting();
    await nextTurn();
    assert.equal(waiting.received, 'over quota\n');
    assert.deepEqual(
      [waiting, first, second, unnamed].map(({ state }) => state),
      ['closing', 'open', 'open', 'open'],
    );
    sessions.closePairs();
    await nextTurn();
    assert.deepEqual(
      [first, second, unnamed].map(({ state }) => state),
      ['closing', 'closing', 'open'],
    );
    assert.deepEqual(fixture.moods(), ['lonely', 'happy']);
  });

  test('of a pair end with the first byte beyond the limit of both directions together', () => {
    using fixture = new Fixture({ maxPairBytes: 10 });
    const [first, second] = fixture.pair();
    first.say('12345');
    second.say('67890');
    assert.deepEqual([first.state, second.state], ['open', 'open']);
    first.say('1');
    assert.deepEqual([first.state, second.state], ['closing', 'closing']);
    assert.equal(second.received, 'ok\n123451');
    assert.deepEqual(
      fixture.summaries.map(({ mood, totalBytes }) => [mood, totalBytes]),
      [['happy', 11]],
    );
  });

  test('of probes are counted nowhere, and are exempt from limits', () => {
    const token = newToken();
    using fixture = new Fixture({ maxPairBytes: 10 });
    const { sessions, admission } = fixture;
    let arrivals = 0;
    sessions.registerProbe(token, () => {
      arrivals += 1;
    });
    const probe = fixture.waiting(token);
    const partner = fixture.connect();
    partner.say(handshake(token, SIDE_B));
    probe.say('more than ten bytes');
    assert.equal(partner.received, 'ok\nmore than ten bytes');
    assert.equal(arrivals, 2);
    assert.deepEqual(sessions.liveCounts(), {
      connected: 0,
      waiting: 0,
      incompleteBytes: 0,
      relayedBytes: 0,
    });
    sessions.unregisterProbe(token);
    assert.equal(fixture.waiting(token).state, 'open');
    assert.equal(sessions.liveCounts().waiting, 1);
    probe.disconnect();
    assert.deepEqual(fixture.summaries, []);
    assert.equal(admission.connections, 2);
  });

  test('end with an internal error of their own, and no other', () => {
    const errors: unknown[] = [];
    using fixture = new Fixture({ onInternalError: (error) => errors.push(error) });
    const [first, second] = fixture.pair();
    const failure = new Error('a defect');
    const client = fixture.connect();
    client.send = () => {
      throw failure;
    };
    client.say('no handshake\n');
    assert.deepEqual(errors, [failure]);
    assert.equal(client.state, 'aborted');
    first.say('data');
    assert.equal(second.received, 'ok\ndata');
    client.disconnect();
  });
});

describe('the wait timeout', () => {
  test('starts when a client begins to wait, and stops when it has a partner', (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    using fixture = new Fixture({ waitTimeoutMs: 1000 });
    const pass = (ms: number): void => {
      fixture.now += ms;
      context.mock.timers.tick(ms);
    };
    const unnamed = fixture.connect();
    const token = newToken();
    pass(900);
    const [first, second] = [fixture.waiting(token), fixture.waiting(newToken())];
    pass(900);
    fixture.connect().say(handshake(token, SIDE_B));
    assert.equal(second.state, 'open');
    pass(101);
    assert.equal(second.state, 'closing');
    pass(5000);
    assert.deepEqual([unnamed.state, first.state], ['open', 'open']);
    assert.deepEqual(fixture.moods(), ['lonely']);
  });
});

describe('stalled pairs', () => {
  /** Three pairs that have been stalled for 30, 20 and 10 ms. */
  function stalledPairs(fixture: Fixture): readonly (readonly [FakeClient, FakeClient])[] {
    return [0, 10, 20].map((time) => {
      const pair = fixture.pair();
      fixture.now = time + 10;
      pair[1].keepsUp = false;
      pair[0].say('data');
      fixture.now = 40;
      return pair;
    });
  }

  const statesOf = (pairs: readonly (readonly FakeClient[])[]): string[] =>
    pairs.map(([client]) => client?.state ?? '');

  test('are ended in the order in which they stalled, at least one', async () => {
    using fixture = new Fixture();
    const pairs = stalledPairs(fixture);
    assert.equal(await fixture.sessions.endStalled(0.1, 0), 1);
    assert.deepEqual(statesOf(pairs), ['aborted', 'open', 'open']);
    assert.equal(await fixture.sessions.endStalled(1, 20), 1);
    assert.deepEqual(statesOf(pairs), ['aborted', 'aborted', 'open']);
    assert.equal(await fixture.sessions.endStalled(1, 21), 0);
    assert.equal(await fixture.sessions.endStalled(1, 0), 1);
    assert.equal(await fixture.sessions.endStalled(1, 0), 0);
    assert.deepEqual(fixture.moods(), ['happy', 'happy', 'happy']);
    fixture.sessions.checkConsistency();
  });

  test('count as stalled from the last pause of their receivers on', async () => {
    using fixture = new Fixture();
    const [first, second] = stalledPairs(fixture);
    assert.ok(first !== undefined && second !== undefined);
    first[1].catchUp();
    first[1].keepsUp = false;
    first[0].say('data');
    second[1].catchUp();
    assert.equal(await fixture.sessions.endStalled(1, 20), 0);
    assert.equal(await fixture.sessions.endStalled(1, 0), 2);
    assert.deepEqual([first[0].state, second[0].state], ['aborted', 'open']);
  });

  test('that have ended count while bytes are buffered for a client', async () => {
    using fixture = new Fixture();
    const [pair, other] = stalledPairs(fixture);
    assert.ok(pair !== undefined && other !== undefined);
    pair[1].bufferedBytes = 4;
    for (const [sender] of [pair, other]) sender.disconnect();
    assert.deepEqual([pair[1].state, other[1].state], ['closing', 'closing']);
    assert.equal(await fixture.sessions.endStalled(1, 15), 1);
    assert.deepEqual([pair[1].state, other[1].state], ['aborted', 'closing']);
  });

  for (const standardStreams of [false, true]) {
    for (const transport of ['tcp', 'websocket'] as const) {
      test(`are reset, and no other client, by ${transport} with ${standardStreams ? 'standard streams' : 'the shared buffer'}`, async (context) => {
        const relay = await TestRelay.open({ standardStreams });
        context.after(() => relay.close());
        const { sessions } = relay;
        const waiting = await relay.connect(transport);
        await waiting.send(handshake(newToken(), SIDE_A));
        const [active, partner] = await connectPair(relay, transport, transport);
        const [sender, receiver] = await connectPair(relay, transport, transport);
        receiver.pause();
        void sender.sendAll(Buffer.alloc(32_000_000), 65_536);
        await until(() => sessions.bufferedBytes > 0);
        await relay.untilStalled();
        await active.send('before');
        assert.equal(await sessions.endStalled(1, 0), 1);
        assert.deepEqual([sessions.pairs, sessions.bufferedBytes], [1, 0]);
        receiver.resume();
        const closes = await Promise.all([sender, receiver].map((client: TestClient) => client.closed));
        assert.deepEqual(
          closes.map(({ reset }) => reset),
          [true, true],
        );
        await active.send(' and after');
        assert.equal((await partner.until(19)).toString(), 'ok\nbefore and after');
        assert.equal(waiting.isClosed, false);
        assert.deepEqual(
          relay.summaries.map(({ mood }) => mood),
          ['happy'],
        );
        assert.equal(relay.admission.connections, 3);
      });
    }
  }
});

describe('a drain', () => {
  test('closes all sessions but pairs, and ends when pairs have ended and everything is delivered', async () => {
    using fixture = new Fixture();
    const { sessions } = fixture;
    const [unnamed, waiting] = [fixture.connect(), fixture.waiting(newToken())];
    const [first, second] = fixture.pair();
    const drained = sessions.drain(60_000, new AbortController().signal);
    await nextTurn();
    for (const client of [unnamed, waiting]) {
      assert.equal(client.received, 'shutting down\n');
      client.disconnect();
    }
    first.say('data');
    assert.equal(second.received, 'ok\ndata');
    assert.equal(await isSettled(drained), false);
    second.bufferedBytes = 4;
    assert.equal(sessions.bufferedBytes, 4);
    first.disconnect();
    assert.equal(await isSettled(drained), false);
    assert.equal(second.state, 'closing');
    second.disconnect();
    await drained;
    assert.equal(sessions.bufferedBytes, 0);
  });

  for (const standardStreams of [false, true]) {
    test(`ends when a client has the bytes of its pair, with ${standardStreams ? 'standard streams' : 'the shared buffer'}`, async (context) => {
      const relay = await TestRelay.open({ standardStreams });
      context.after(() => relay.close());
      const sender = await relay.connect('tcp');
      // It never closes its end.
      const receiver = connect({ port: relay.tcpPort, host: '127.0.0.1', allowHalfOpen: true });
      context.after(() => receiver.destroy());
      const token = newToken();
      await sender.send(handshake(token, SIDE_A));
      receiver.write(handshake(token, SIDE_B));
      await sender.until(3);
      const sent = sender.sendAll(Buffer.alloc(32_000_000), 65_536);
      const { sessions } = relay;
      // A sender that waits for a processor also looks stalled.
      await until(() => sessions.bufferedBytes > 0);
      await relay.untilStalled();
      sender.reset();
      await sent;
      const drained = sessions.drain(60_000, new AbortController().signal);
      await until(() => {
        sessions.sweep();
        return sessions.pairs === 0;
      });
      assert.ok(sessions.bufferedBytes > 0);
      assert.equal(await isSettled(drained), false);
      receiver.resume();
      await drained;
      assert.deepEqual([sessions.bufferedBytes, relay.admission.connections], [0, 1]);
    });
  }

  test('ends when it is aborted, or at its timeout', async () => {
    using fixture = new Fixture();
    fixture.pair();
    const abort = new AbortController();
    const drained = fixture.sessions.drain(60_000, abort.signal);
    assert.equal(await isSettled(drained), false);
    abort.abort();
    await drained;
    await fixture.sessions.drain(1, new AbortController().signal);
    assert.equal(fixture.sessions.pairs, 1);
  });

  test('can wait until no client waits for a partner', async () => {
    using fixture = new Fixture();
    const { sessions } = fixture;
    const { signal } = new AbortController();
    await sessions.untilNoneWaiting(60_000, signal);
    const client = fixture.waiting(newToken());
    const none = sessions.untilNoneWaiting(60_000, signal);
    fixture.connect();
    assert.equal(await isSettled(none), false);
    client.disconnect();
    await none;
    fixture.waiting(newToken());
    await sessions.untilNoneWaiting(1, signal);
    await sessions.untilNoneWaiting(60_000, AbortSignal.abort());
  });
});
