import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { formatEndpoint } from '../../../src/config/endpoint.ts';
import type { Endpoint } from '../../../src/config/endpoint.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { scratch } from '../../support/scratch.ts';
import type { TestClient } from '../../support/test-client.ts';
import { OpenRelay } from '../../support/open-relay.ts';

const DAY_MS = 86_400_000;

/** Longest possible uptime: the test takes less time. */
const MAX_UPTIME_SECONDS = 60;

async function pair(relay: OpenRelay): Promise<[TestClient, TestClient]> {
  const token = newToken();
  const [a, b] = [await relay.connect('tcp'), await relay.connect('tcp')];
  await a.send(handshake(token, SIDE_A));
  await b.send(handshake(token, SIDE_B));
  await Promise.all([a.until(3), b.until(3)]);
  return [a, b];
}

describe('the health checks of a relay', () => {
  test('probe every listener and every kind of transfer, each with its latency', async (context) => {
    const directory = await scratch(context);
    await using relay = await OpenRelay.start({
      // The first endpoint of each role listens on all addresses.
      RELAY_LISTEN: `tcp:0 tcp:0:interface=127.0.0.3 unix:${join(directory, 'relay.sock')}`,
      RELAY_WEBSOCKET_LISTEN: `tcp:0 unix:${join(directory, 'websocket.sock')}`,
    });
    const named = (protocol: string, endpoints: readonly Endpoint[]): string[] =>
      endpoints.map((endpoint) => `${protocol} ${formatEndpoint(endpoint)}`);
    const raw = named('raw', relay.endpoints.raw);
    const websocket = named('websocket', relay.endpoints.websocket);
    const same = [...raw, ...websocket].map((name) => [name, name]);
    assert.equal(same.length, 5);

    const listeners = await relay.check('relay');
    assert.deepEqual([listeners.status, listeners.report.ok, listeners.report.problem], [200, true, null]);
    assert.deepEqual(
      listeners.report.listeners?.map(({ from, to }) => [from, to]),
      same,
    );
    const transfers = await relay.check('transfer');
    assert.deepEqual([transfers.status, transfers.report.ok, transfers.report.problem], [200, true, null]);
    assert.deepEqual(
      transfers.report.transfers?.map(({ from, to }) => [from, to]),
      [...same, [raw[0], websocket[0]]],
    );
    for (const { ok, milliseconds, problem } of [
      ...(listeners.report.listeners ?? []),
      ...(transfers.report.transfers ?? []),
    ]) {
      assert.deepEqual([ok, problem], [true, null]);
      assert.ok(milliseconds > 0);
    }
  });

  test('contain no mixed transfer with listeners of one role only', async () => {
    for (const settings of [{ RELAY_LISTEN: '' }, { RELAY_WEBSOCKET_LISTEN: '' }]) {
      await using relay = await OpenRelay.start(settings);
      const { status, report } = await relay.check('transfer');
      assert.deepEqual([status, report.transfers?.length], [200, 1]);
    }
  });

  test('report that the relay is stopping while it drains; other routes keep working', async () => {
    await using relay = await OpenRelay.start();
    const [a, b] = await pair(relay);
    assert.equal((await relay.status()).draining, false);
    const abort = new AbortController();
    const drained = relay.relay.drain(abort.signal);
    for (const word of ['relay', 'transfer'] as const) {
      const { status, report } = await relay.check(word);
      assert.deepEqual([status, report.ok, report.problem], [503, false, 'the relay is stopping']);
    }
    assert.equal((await fetch(`${relay.statusUrl}/healthz`)).status, 200);
    const { draining, pairs, waiting } = await relay.status();
    assert.deepEqual({ draining, pairs, waiting }, { draining: true, pairs: 1, waiting: 0 });
    // The pair keeps running too.
    await a.send('bytes');
    assert.equal(String(await b.until(8)), 'ok\nbytes');
    a.end();
    await b.closed;
    b.end();
    await drained;
    assert.equal((await relay.status()).pairs, 0);
  });
});

describe('the status of a relay', () => {
  test('has the start time and the uptime', async () => {
    const before = Date.now();
    await using relay = await OpenRelay.start();
    const { started, uptime_seconds } = await relay.status();
    assert.match(started, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/u);
    assert.ok(Date.parse(started) >= before && Date.parse(started) <= Date.now());
    assert.ok(Number.isInteger(uptime_seconds) && uptime_seconds >= 0);
    await relay.statusWhere((status) => status.uptime_seconds > uptime_seconds);
  });

  test('has the byte rate, which is 0 when no bytes flow', async () => {
    await using relay = await OpenRelay.start();
    assert.equal((await relay.status()).bytes_per_second, 0);
    const [a, b] = await pair(relay);
    const piece = Buffer.alloc(100_000);
    let sentBytes = 0;
    const stop = new AbortController();
    const sending = (async () => {
      for (; !stop.signal.aborted; sentBytes += piece.length) {
        await a.send(piece);
        await b.until(3 + sentBytes);
      }
    })();
    const busy = await relay.statusWhere((status) => status.bytes_per_second > 0);
    assert.ok(Number.isInteger(busy.bytes_per_second));
    assert.ok(busy.relayed_bytes > 0);
    stop.abort();
    await sending;
    await b.until(3 + sentBytes);
    const idle = await relay.statusWhere((status) => status.bytes_per_second === 0);
    assert.deepEqual([idle.relayed_bytes, idle.pairs], [sentBytes, 1]);
    a.end();
    await b.closed;
    const ended = await relay.statusWhere((status) => status.pairs === 0);
    assert.deepEqual([ended.relayed_bytes, ended.bytes_per_second], [sentBytes, 0]);
  });

  test('rounds byte counts to 10,000 if records are blurred', async () => {
    await using relay = await OpenRelay.start({ RELAY_BLUR_USAGE: '60' });
    assert.equal((await relay.status()).relayed_bytes, 0);
    const [a, b] = await pair(relay);
    await a.send(Buffer.alloc(12_345));
    await b.until(12_348);
    assert.equal((await relay.status()).relayed_bytes, 20_000);
    await b.send(Buffer.alloc(1_000_000));
    await a.until(1_000_003);
    // The steps stay small, unlike those of the bytes of a record: 1,012,345 bytes are rounded to this.
    assert.equal((await relay.status()).relayed_bytes, 1_020_000);
    a.end();
    await b.closed;
    assert.equal((await relay.statusWhere(({ pairs }) => pairs === 0)).relayed_bytes, 1_020_000);
    // Bytes of pairs are summed before they are rounded. Otherwise each pair would add a step.
    const [c, d] = await pair(relay);
    await c.send('x');
    await d.until(4);
    assert.equal((await relay.status()).relayed_bytes, 1_020_000);
  });
});

for (const days of [1, -1]) {
  test(`a wall clock jump of ${days} day changes neither uptime nor start time`, async (context) => {
    await using relay = await OpenRelay.start();
    const { started } = await relay.status();
    const wallClock = Date.now;
    context.mock.method(Date, 'now', () => wallClock() + days * DAY_MS);
    const after = await relay.status();
    assert.equal(after.started, started);
    assert.ok(
      after.uptime_seconds >= 0 && after.uptime_seconds < MAX_UPTIME_SECONDS,
      String(after.uptime_seconds),
    );
    // The uptime keeps growing.
    await relay.statusWhere((status) => status.uptime_seconds > after.uptime_seconds);
  });
}
