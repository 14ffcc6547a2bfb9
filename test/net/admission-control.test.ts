import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AddressLimit } from '../../src/limits/address-limit.ts';
import { REJECT_SLOTS } from '../../src/limits/connection-limit.ts';
import type { AcceptedConnection } from '../../src/sessions/admission-control.ts';
import { AdmissionControl } from '../../src/sessions/admission-control.ts';

/** A reception where one connection has room, and the connections that it has closed to make room for others. */
class Fixture {
  readonly reception: AdmissionControl;
  readonly evicted: AcceptedConnection[] = [];

  constructor(maxConnections: number) {
    this.reception = new AdmissionControl({
      handshakeTimeoutMs: null,
      maxConnections,
      maxWaiting: null,
      addressLimit: new AddressLimit({ maxOpen: 1, newConnectionRate: null }, () => 0),
      wallClock: () => 0,
      monotonicClock: () => 0,
    });
  }

  arrive(): AcceptedConnection {
    const accepted = this.reception.accept(null);
    assert.ok(accepted !== null);
    accepted.phase = {
      onTimeout: () => undefined,
      onDrain: () => undefined,
      abort: () => undefined,
      evict: () => {
        this.evicted.push(accepted);
        this.reception.release(accepted);
      },
    };
    return accepted;
  }

  arriveFrom(address: string): AcceptedConnection {
    const accepted = this.arrive();
    this.reception.setClientAddress(accepted, address);
    return accepted;
  }

  close(): void {
    this.reception.close();
  }
}

describe('connections beyond a limit', () => {
  test('are kept in a bounded number of places, where the oldest makes room', () => {
    const fixture = new Fixture(1);
    const inside = fixture.arrive();
    const others = Array.from({ length: REJECT_SLOTS + 10 }, () => fixture.arrive());
    assert.deepEqual(fixture.evicted, others.slice(0, 10));
    assert.equal(fixture.reception.connections, 1);
    assert.equal(fixture.reception.rejected.connections, 10);
    for (const accepted of [inside, ...others.slice(10)]) fixture.reception.release(accepted);
    assert.equal(fixture.reception.rejected.connections, REJECT_SLOTS + 10);
    assert.equal(fixture.reception.connections, 0);
    assert.equal(fixture.evicted.length, 10);
    fixture.close();
  });

  test('share them, whichever limit it is, and do not keep others from coming in', () => {
    const fixture = new Fixture(3);
    const inside = fixture.arriveFrom('192.0.2.1');
    const others = Array.from({ length: REJECT_SLOTS + 10 }, () => fixture.arriveFrom('192.0.2.1'));
    assert.deepEqual(fixture.evicted, others.slice(0, 10));
    assert.equal(fixture.reception.connections, 1);
    assert.equal(fixture.arriveFrom('192.0.2.2').rejectReason, null);
    assert.equal(fixture.arriveFrom('192.0.2.3').rejectReason, null);
    assert.equal(fixture.arriveFrom('192.0.2.4').rejectReason, 'connections');
    assert.deepEqual(fixture.evicted, others.slice(0, 11));
    assert.equal(inside.rejectReason, null);
    fixture.close();
  });

  test('that turn out to be probes of the relay are never closed for others', () => {
    const fixture = new Fixture(1);
    fixture.arrive();
    const probe = fixture.arrive();
    fixture.reception.exempt(probe);
    assert.equal(probe.rejectReason, null);
    for (let count = 0; count < 2 * REJECT_SLOTS; count += 1) fixture.arrive();
    assert.equal(fixture.evicted.length, REJECT_SLOTS);
    assert.ok(!fixture.evicted.includes(probe));
    // It was never counted as a connection, and does not leave as one.
    fixture.reception.release(probe);
    assert.equal(fixture.reception.connections, 1);
    fixture.close();
  });
});
