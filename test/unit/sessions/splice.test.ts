import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { RateLimiter } from '../../../src/limits/rate-limiter.ts';
import { Splice, StallTimer } from '../../../src/sessions/splice.ts';
import type { ClientTransport, TransportKind } from '../../../src/transport/client-transport.ts';

const noop = (): undefined => undefined;

/** A client whose speed is set by the test. */
class FakeTransport implements ClientTransport {
  readonly kind: TransportKind;
  readonly bufferedBytes = 0;
  readonly deliveredBytes = 0;
  keepsUp = true;
  isPaused = false;
  readonly start = noop;
  readonly limitReadSize = noop;
  readonly detectReset = noop;
  readonly closeGracefully = noop;
  readonly abort = noop;

  constructor(transport: TransportKind) {
    this.kind = transport;
  }

  send(): boolean {
    return this.keepsUp;
  }

  pause(): void {
    assert.equal(this.isPaused, false, 'paused twice');
    this.isPaused = true;
  }

  resume(): void {
    assert.equal(this.isPaused, true, 'resumed without a pause');
    this.isPaused = false;
  }
}

/** A pair, and how many of its directions are paused according to the stall timers. */
function open() {
  let now = 0;
  const clock = (): number => now;
  const timers = { backpressure: new StallTimer(clock), rateLimit: new StallTimer(clock) };
  const [tcp, websocket] = [new FakeTransport('tcp'), new FakeTransport('websocket')];
  const countOf = (timer: StallTimer): number => {
    const before = timer.seconds;
    now += 1000;
    return timer.seconds - before;
  };
  return {
    tcp,
    websocket,
    splice: new Splice(tcp, websocket, timers),
    paused: () => ({
      backpressure: countOf(timers.backpressure),
      rateLimit: countOf(timers.rateLimit),
    }),
  };
}

describe('a splice', () => {
  test('leaves the rate limiter when it ends, which then neither resumes it nor keeps it', () => {
    const { splice, tcp, websocket } = open();
    const limiter = new RateLimiter({ pairBytesPerSecond: 1000, totalBytesPerSecond: null }, () => 0);
    splice.limit(limiter, null, noop);
    splice.forward(tcp, new Uint8Array(100_000));
    assert.deepEqual([tcp.isPaused, websocket.isPaused], [true, true]);
    splice.end();
    // Resumes all pairs that have not left.
    limiter.close();
    assert.deepEqual([tcp.isPaused, websocket.isPaused], [true, true]);
  });

  test('counts each direction separately', () => {
    const { splice, tcp, websocket } = open();
    splice.forward(tcp, new Uint8Array(1000));
    splice.forward(websocket, new Uint8Array(70));
    splice.forward(tcp, new Uint8Array(5));
    assert.deepEqual(splice.flows(), [
      { from: 'tcp', to: 'websocket', bytes: 1005 },
      { from: 'websocket', to: 'tcp', bytes: 70 },
    ]);
    assert.equal(splice.totalBytes, 1075);
  });

  test('measures how long each direction is paused, and why', () => {
    const { splice, tcp, websocket, paused } = open();
    assert.deepEqual(paused(), { backpressure: 0, rateLimit: 0 });
    websocket.keepsUp = false;
    splice.forward(tcp, new Uint8Array(1));
    // Bytes that were read before the pause still arrive.
    splice.forward(tcp, new Uint8Array(1));
    assert.deepEqual(paused(), { backpressure: 1, rateLimit: 0 });
    splice.pauseBoth();
    splice.pauseBoth();
    assert.deepEqual(paused(), { backpressure: 1, rateLimit: 2 });
    splice.receiverDrained(websocket);
    splice.receiverDrained(websocket);
    assert.deepEqual(paused(), { backpressure: 0, rateLimit: 2 });
    splice.resumeBoth();
    splice.resumeBoth();
    assert.deepEqual(paused(), { backpressure: 0, rateLimit: 0 });
  });

  test('stops measuring pauses when it has ended, even if its methods are still called', () => {
    const { splice, tcp, websocket, paused } = open();
    tcp.keepsUp = false;
    websocket.keepsUp = false;
    splice.forward(tcp, new Uint8Array(1));
    splice.forward(websocket, new Uint8Array(1));
    splice.pauseBoth();
    assert.deepEqual(paused(), { backpressure: 2, rateLimit: 2 });
    splice.end();
    assert.deepEqual(paused(), { backpressure: 0, rateLimit: 0 });
    splice.receiverDrained(websocket);
    splice.resumeBoth();
    splice.end();
    assert.deepEqual(paused(), { backpressure: 0, rateLimit: 0 });
  });

  test('reads from a client if neither its partner nor a limit prevents it, in any order of events', () => {
    const operation = fc.record({
      action: fc.constantFrom('forward', 'stall', 'drained', 'pauseBoth', 'resumeBoth'),
      isFirst: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const { splice, tcp, websocket, paused } = open();
        const stalled = new Set<FakeTransport>();
        let isThrottled = false;
        for (const { action, isFirst } of operations) {
          const [from, to] = isFirst ? [tcp, websocket] : [websocket, tcp];
          to.keepsUp = action !== 'stall';
          if (action === 'forward' || action === 'stall') splice.forward(from, new Uint8Array(1));
          if (action === 'stall') stalled.add(to);
          if (action === 'drained') {
            splice.receiverDrained(to);
            stalled.delete(to);
          }
          if (action === 'pauseBoth' || action === 'resumeBoth') {
            splice[action]();
            isThrottled = action === 'pauseBoth';
          }
          assert.equal(tcp.isPaused, isThrottled || stalled.has(websocket));
          assert.equal(websocket.isPaused, isThrottled || stalled.has(tcp));
          assert.deepEqual(paused(), { backpressure: stalled.size, rateLimit: isThrottled ? 2 : 0 });
        }
        splice.end();
        assert.deepEqual(paused(), { backpressure: 0, rateLimit: 0 });
      }),
      { numRuns: 500 },
    );
  });
});

describe('a stall timer', () => {
  test('adds up simultaneous pauses until now', () => {
    let now = 5000;
    const timer = new StallTimer(() => now);
    now = 6000;
    assert.equal(timer.seconds, 0);
    timer.begin(1);
    now = 7000;
    assert.equal(timer.seconds, 1);
    timer.begin(2);
    now = 8500;
    assert.equal(timer.seconds, 1 + 3 * 1.5);
    timer.end(2);
    now = 9500;
    timer.end(1);
    now = 20_000;
    assert.equal(timer.seconds, 6.5);
  });

  test('never decreases, and is the sum of all pauses, however they overlap and however often it is read', () => {
    const step = fc.record({
      afterMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
      action: fc.constantFrom('begin', 'end', 'read'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        let now = 1e9;
        const timer = new StallTimer(() => now);
        const startTimes: number[] = [];
        let expectedMs = 0;
        let before = 0;
        for (const { afterMs, action } of steps) {
          now += afterMs;
          if (action === 'begin') {
            timer.begin(1);
            startTimes.push(now);
          } else if (action === 'end' && startTimes.length > 0) {
            timer.end(1);
            expectedMs += now - (startTimes.pop() ?? now);
          }
          const { seconds } = timer;
          assert.ok(seconds >= before);
          before = seconds;
        }
        for (const startTime of startTimes) expectedMs += now - startTime;
        assert.ok(Math.abs(before * 1000 - expectedMs) < 1, `${before * 1000} ms and not ${expectedMs}`);
      }),
      { numRuns: 500 },
    );
  });
});
