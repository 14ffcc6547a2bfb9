import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { Splice, StallTimer } from '../../src/sessions/splice.ts';
import type { ClientTransport, TransportKind } from '../../src/transport/client-transport.ts';

const nothing = (): undefined => undefined;

/** A client that takes what it is told to take. */
class FakePeer implements ClientTransport {
  readonly kind: TransportKind;
  readonly bufferedBytes = 0;
  readonly deliveredBytes = 0;
  keepsUp = true;
  isPaused = false;
  readonly start = nothing;
  readonly limitReadSize = nothing;
  readonly detectReset = nothing;
  readonly closeGracefully = nothing;
  readonly abort = nothing;

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
    assert.equal(this.isPaused, true, 'resumed, and was not paused');
    this.isPaused = false;
  }
}

/** A pair, and how many of its directions are paused, as the clocks have it. */
function open() {
  let now = 0;
  const clock = (): number => now;
  const pauses = { backpressure: new StallTimer(clock), rateLimit: new StallTimer(clock) };
  const [tcp, websocket] = [new FakePeer('tcp'), new FakePeer('websocket')];
  const countOf = (pause: StallTimer): number => {
    const before = pause.seconds;
    now += 1000;
    return pause.seconds - before;
  };
  return {
    tcp,
    websocket,
    splice: new Splice(tcp, websocket, pauses),
    paused: () => ({
      backpressure: countOf(pauses.backpressure),
      rateLimit: countOf(pauses.rateLimit),
    }),
  };
}

describe('a splice', () => {
  test('counts each direction by itself', () => {
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

  test('tells for how long which direction stood still, and why', () => {
    const { splice, tcp, websocket, paused } = open();
    assert.deepEqual(paused(), { backpressure: 0, rateLimit: 0 });
    websocket.keepsUp = false;
    splice.forward(tcp, new Uint8Array(1));
    // What was read before it was paused comes all the same.
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

  test('stands still no longer once it has ended, whatever is still told to it', () => {
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

  test('reads from a client when neither its partner nor a limit is against it, whatever happens in which order', () => {
    const operation = fc.record({
      what: fc.constantFrom('forward', 'stall', 'drained', 'pauseBoth', 'resumeBoth'),
      isFirst: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const { splice, tcp, websocket, paused } = open();
        const stalled = new Set<FakePeer>();
        let isHeld = false;
        for (const { what, isFirst } of operations) {
          const [from, to] = isFirst ? [tcp, websocket] : [websocket, tcp];
          to.keepsUp = what !== 'stall';
          if (what === 'forward' || what === 'stall') splice.forward(from, new Uint8Array(1));
          if (what === 'stall') stalled.add(to);
          if (what === 'drained') {
            splice.receiverDrained(to);
            stalled.delete(to);
          }
          if (what === 'pauseBoth' || what === 'resumeBoth') {
            splice[what]();
            isHeld = what === 'pauseBoth';
          }
          assert.equal(tcp.isPaused, isHeld || stalled.has(websocket));
          assert.equal(websocket.isPaused, isHeld || stalled.has(tcp));
          assert.deepEqual(paused(), { backpressure: stalled.size, rateLimit: isHeld ? 2 : 0 });
        }
        splice.end();
        assert.deepEqual(paused(), { backpressure: 0, rateLimit: 0 });
      }),
      { numRuns: 500 },
    );
  });
});
