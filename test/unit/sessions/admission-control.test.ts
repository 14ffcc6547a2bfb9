import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { AddressLimit } from '../../../src/limits/address-limit.ts';
import { REJECT_SLOTS } from '../../../src/limits/capacity.ts';
import type { AcceptedConnection } from '../../../src/sessions/admission-control.ts';
import { AdmissionControl } from '../../../src/sessions/admission-control.ts';

/** Admission control with one connection for each address, and the connections that it has evicted. */
class Fixture {
  readonly admission: AdmissionControl;
  readonly evicted: AcceptedConnection[] = [];
  /** Reports that nearly all rejected clients have one private address. */
  sharedAddresses = 0;

  constructor(context: TestContext, maxConnections: number) {
    this.admission = new AdmissionControl({
      handshakeTimeoutMs: null,
      maxConnections,
      maxWaiting: null,
      proxies: null,
      addressLimit: new AddressLimit({ connectionsPerAddress: 1, newConnectionsPerAddress: null }, () => 0),
      onSharedAddress: () => {
        this.sharedAddresses += 1;
      },
      wallClock: () => 0,
      monotonicClock: () => 0,
    });
    // By this clock no timeout ever ends, so its timer would keep a failed test running.
    context.after(() => this.admission.close());
  }

  accept(): AcceptedConnection {
    const accepted = this.admission.accept(null);
    assert.ok(accepted !== null);
    accepted.phase = {
      onTimeout: () => undefined,
      onDrain: () => undefined,
      abort: () => undefined,
      evict: () => {
        this.evicted.push(accepted);
        this.admission.release(accepted);
      },
    };
    return accepted;
  }

  acceptFrom(address: string): AcceptedConnection {
    const accepted = this.accept();
    this.admission.setClientAddress(accepted, address);
    return accepted;
  }

  /** Accepts `count` connections. Returns how many of them have a slot of each kind. */
  slots(count: number): Record<AcceptedConnection['slot'], number> {
    const slots = { admitted: 0, 'reject-slot': 0, none: 0 };
    for (let index = 0; index < count; index += 1) slots[this.accept().slot] += 1;
    return slots;
  }
}

describe('the connection limit', () => {
  test('admits connections up to the limit', (context) => {
    const fixture = new Fixture(context, 3);
    assert.deepEqual(fixture.slots(5), { admitted: 3, 'reject-slot': 2, none: 0 });
    assert.equal(fixture.admission.connections, 3);
  });

  test('admits one more connection for each admitted connection that is released, but not for rejected ones', (context) => {
    const fixture = new Fixture(context, 2);
    const [inside, , rejected, probe] = Array.from({ length: 4 }, () => fixture.accept());
    assert.ok(inside !== undefined && rejected !== undefined && probe !== undefined);
    fixture.admission.exempt(probe);
    assert.deepEqual([rejected.slot, probe.slot], ['reject-slot', 'none']);
    fixture.admission.release(rejected);
    fixture.admission.release(probe);
    assert.equal(fixture.accept().slot, 'reject-slot');
    fixture.admission.release(inside);
    assert.equal(fixture.admission.connections, 1);
    assert.deepEqual(fixture.slots(100), { admitted: 1, 'reject-slot': 99, none: 0 });
  });

  test('can be infinite', (context) => {
    const fixture = new Fixture(context, Number.POSITIVE_INFINITY);
    assert.deepEqual(fixture.slots(100_000), { admitted: 100_000, 'reject-slot': 0, none: 0 });
  });
});

describe('connections beyond a limit', () => {
  test('use a bounded number of reject slots, and the oldest is closed first', (context) => {
    const fixture = new Fixture(context, 1);
    const acceptedFirst = fixture.accept();
    const others = Array.from({ length: REJECT_SLOTS + 10 }, () => fixture.accept());
    assert.deepEqual(fixture.evicted, others.slice(0, 10));
    assert.equal(fixture.admission.connections, 1);
    assert.equal(fixture.admission.rejected.connections, 10);
    for (const accepted of [acceptedFirst, ...others.slice(10)]) fixture.admission.release(accepted);
    assert.equal(fixture.admission.rejected.connections, REJECT_SLOTS + 10);
    assert.equal(fixture.admission.connections, 0);
    assert.equal(fixture.evicted.length, 10);
  });

  test('share these slots for all limits, and do not keep other connections out', (context) => {
    const fixture = new Fixture(context, 3);
    const acceptedFirst = fixture.acceptFrom('192.0.2.1');
    const others = Array.from({ length: REJECT_SLOTS + 10 }, () => fixture.acceptFrom('192.0.2.1'));
    assert.deepEqual(fixture.evicted, others.slice(0, 10));
    assert.equal(fixture.admission.connections, 1);
    assert.equal(fixture.acceptFrom('192.0.2.2').rejectReason, null);
    assert.equal(fixture.acceptFrom('192.0.2.3').rejectReason, null);
    assert.equal(fixture.acceptFrom('192.0.2.4').rejectReason, 'connections');
    assert.deepEqual(fixture.evicted, others.slice(0, 11));
    assert.equal(acceptedFirst.rejectReason, null);
  });

  test('that are probes of the relay are never closed for others', (context) => {
    const fixture = new Fixture(context, 1);
    fixture.accept();
    const probe = fixture.accept();
    fixture.admission.exempt(probe);
    assert.equal(probe.rejectReason, null);
    for (let count = 0; count < 2 * REJECT_SLOTS; count += 1) fixture.accept();
    assert.equal(fixture.evicted.length, REJECT_SLOTS);
    assert.ok(!fixture.evicted.includes(probe));
    // It was never counted as a connection, so its close is not counted either.
    fixture.admission.release(probe);
    assert.equal(fixture.admission.connections, 1);
  });
});

for (const { address, reports } of [
  { address: '10.0.0.1', reports: 1 },
  { address: '192.0.2.1', reports: 0 },
]) {
  test(`20 rejections of address ${address} are reported ${reports} times as those of a private address`, (context) => {
    const fixture = new Fixture(context, 100);
    fixture.acceptFrom(address);
    const rejected = Array.from({ length: 20 }, () => fixture.acceptFrom(address));
    for (const accepted of rejected.slice(1)) fixture.admission.release(accepted);
    assert.equal(fixture.sharedAddresses, 0);
    for (const accepted of rejected.slice(0, 1)) fixture.admission.release(accepted);
    assert.equal(fixture.sharedAddresses, reports);
  });
}

test('a connection that closes is a failed handshake only if it has had no session', (context) => {
  const { admission } = new Fixture(context, 5);
  for (const hasSession of [true, false]) {
    const accepted = admission.accept(null);
    assert.ok(accepted !== null);
    accepted.failure = 'disconnected';
    if (hasSession) admission.promote(accepted);
    admission.release(accepted);
    assert.equal(admission.handshakeFailures.disconnected, hasSession ? 0 : 1);
  }
});

test('failed handshakes are counted by kind, except those of rejected connections and probes', (context) => {
  const fixture = new Fixture(context, 5);
  const { admission } = fixture;
  const [raw, secure, secureTimeout, probe, client] = [1, 2, 3, 4, 5].map(() => fixture.accept());
  const rejected = fixture.accept();
  assert.ok(raw && secure && secureTimeout && probe && client);
  admission.exempt(probe);
  secure.failure = 'tls';
  secureTimeout.failure = 'tls';
  admission.countHandshakeFailure(raw, 'disconnected');
  admission.countHandshakeFailure(client, 'bad_line');
  admission.countHandshakeFailure(secure, 'disconnected');
  admission.countHandshakeFailure(secureTimeout, 'timeout');
  admission.countHandshakeFailure(probe, 'text');
  admission.countHandshakeFailure(rejected, 'text');
  assert.deepEqual(admission.handshakeFailures, {
    disconnected: 1,
    timeout: 1,
    bad_line: 1,
    overlong_line: 0,
    early_bytes: 0,
    text: 0,
    http: 0,
    tls: 1,
  });
});
