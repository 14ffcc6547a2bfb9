import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AddressLimit } from '../../src/limits/address-limit.ts';
import { LANE_PLACES } from '../../src/limits/connection-limit.ts';
import type { Arrival } from '../../src/net/arrival.ts';
import { Reception } from '../../src/net/reception.ts';

/** A reception where one connection has room, and the connections that it has closed to make room for others. */
class Fixture {
  readonly reception: Reception;
  readonly evicted: Arrival[] = [];

  constructor(maxConnections: number) {
    this.reception = new Reception({
      handshakeMs: null,
      maxConnections,
      maxWaiting: null,
      addresses: new AddressLimit({ open: 1, newPer: null }, () => 0),
      wallClock: () => 0,
      monotonicClock: () => 0,
    });
  }

  arrive(): Arrival {
    const arrival = this.reception.arrive(null);
    assert.ok(arrival !== null);
    arrival.owner = {
      tooLate: () => undefined,
      shutdown: () => undefined,
      cut: () => undefined,
      evict: () => {
        this.evicted.push(arrival);
        this.reception.left(arrival);
      },
    };
    return arrival;
  }

  arriveFrom(address: string): Arrival {
    const arrival = this.arrive();
    this.reception.comesFrom(arrival, address);
    return arrival;
  }

  close(): void {
    this.reception.close();
  }
}

describe('connections beyond a limit', () => {
  test('are kept in a bounded number of places, where the oldest makes room', () => {
    const fixture = new Fixture(1);
    const inside = fixture.arrive();
    const others = Array.from({ length: LANE_PLACES + 10 }, () => fixture.arrive());
    assert.deepEqual(fixture.evicted, others.slice(0, 10));
    assert.equal(fixture.reception.connections, 1);
    assert.equal(fixture.reception.refused.connections, 10);
    for (const arrival of [inside, ...others.slice(10)]) fixture.reception.left(arrival);
    assert.equal(fixture.reception.refused.connections, LANE_PLACES + 10);
    assert.equal(fixture.reception.connections, 0);
    assert.equal(fixture.evicted.length, 10);
    fixture.close();
  });

  test('share them, whichever limit it is, and do not keep others from coming in', () => {
    const fixture = new Fixture(3);
    const inside = fixture.arriveFrom('192.0.2.1');
    const others = Array.from({ length: LANE_PLACES + 10 }, () => fixture.arriveFrom('192.0.2.1'));
    assert.deepEqual(fixture.evicted, others.slice(0, 10));
    assert.equal(fixture.reception.connections, 1);
    assert.equal(fixture.arriveFrom('192.0.2.2').refusal, null);
    assert.equal(fixture.arriveFrom('192.0.2.3').refusal, null);
    assert.equal(fixture.arriveFrom('192.0.2.4').refusal, 'connections');
    assert.deepEqual(fixture.evicted, others.slice(0, 11));
    assert.equal(inside.refusal, null);
    fixture.close();
  });

  test('that turn out to be probes of the relay are never closed for others', () => {
    const fixture = new Fixture(1);
    fixture.arrive();
    const probe = fixture.arrive();
    fixture.reception.pardon(probe);
    assert.equal(probe.refusal, null);
    for (let count = 0; count < 2 * LANE_PLACES; count += 1) fixture.arrive();
    assert.equal(fixture.evicted.length, LANE_PLACES);
    assert.ok(!fixture.evicted.includes(probe));
    // It was never counted as a connection, and does not leave as one.
    fixture.reception.left(probe);
    assert.equal(fixture.reception.connections, 1);
    fixture.close();
  });
});
