import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Arrival } from '../../src/net/arrival.ts';
import { HttpDesk, MAX_HTTP_CONNECTIONS } from '../../src/net/http-desk.ts';
import { FedWire } from '../support/fed-wire.ts';
import { UPGRADE_LINES } from '../support/frames.ts';

const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
const UPGRADE = `${UPGRADE_LINES.join('\r\n')}\r\n\r\n`;

/** A wire that keeps what is sent. Its client never closes its own end. */
class SilentClient extends FedWire {
  sent = '';
  isClosed = false;

  override write(bytes?: Uint8Array): boolean {
    this.sent += Buffer.from(bytes ?? []).toString('latin1');
    return true;
  }

  override end(): void {
    // The FIN is not answered.
  }

  override destroy(): void {
    this.isClosed = true;
    super.destroy();
  }
}

class Desk {
  readonly earlyBytes: string[] = [];
  left = 0;
  readonly #desk = new HttpDesk({
    proxies: null,
    upgraded: (_wire, _arrival, bytes) => this.earlyBytes.push(Buffer.from(bytes).toString('latin1')),
    comesFrom: () => true,
    left: () => {
      this.left += 1;
    },
  });

  open(firstBytes: string): SilentClient {
    const client = new SilentClient();
    this.#desk.serve(client, new Arrival('inside', null, 0, 0), Buffer.from(firstBytes));
    return client;
  }
}

function count(clients: readonly SilentClient[], holds: (client: SilentClient) => boolean): number {
  return clients.filter((client) => holds(client)).length;
}

const isAnswered = ({ sent }: SilentClient): boolean => sent.startsWith('HTTP/1.1 ');

describe('requests that come at once', () => {
  test('are answered 64 in a turn of the event loop, and all in the end', async () => {
    const desk = new Desk();
    const clients = Array.from({ length: 200 }, () => desk.open(GET));
    assert.equal(count(clients, isAnswered), 64);
    await nextTurn();
    // Both are immediates of this turn, in either order.
    const second = count(clients, isAnswered);
    assert.ok(second === 64 || second === 128, String(second));
    for (let turns = 0; turns < 4; turns += 1) await nextTurn();
    assert.equal(count(clients, isAnswered), 200);
    for (const { sent } of clients) assert.match(sent, /^HTTP\/1\.1 426 (?:(?!HTTP\/1\.1)[^])*$/u);
    for (const client of clients) client.destroy();
    assert.equal(desk.left, 200);
  });

  test('and are upgrades keep what was sent behind them, up to a limit', async () => {
    const desk = new Desk();
    const others = Array.from({ length: 64 }, () => desk.open(GET));
    const exact = desk.open(UPGRADE + 'x'.repeat(16_384));
    const excess = desk.open(UPGRADE + 'x'.repeat(16_385));
    for (let turns = 0; turns < 3; turns += 1) await nextTurn();
    assert.match(exact.sent, /^HTTP\/1\.1 101 /u);
    assert.deepEqual(desk.earlyBytes, ['x'.repeat(16_384)]);
    assert.match(excess.sent, /^HTTP\/1\.1 400 /u);
    for (const client of [...others, excess]) client.destroy();
  });

  test('and are closed before they are answered leave nothing', async () => {
    const desk = new Desk();
    const clients = Array.from({ length: 70 }, () => desk.open(GET));
    for (const client of clients) client.destroy();
    for (let turns = 0; turns < 3; turns += 1) await nextTurn();
    assert.equal(desk.left, 70);
    assert.equal(count(clients, isAnswered), 64);
  });
});

describe('a request', () => {
  test('is the only one of its connection, whatever follows and however it comes', async () => {
    const desk = new Desk();
    const client = desk.open(GET.repeat(100).slice(0, 30));
    client.feed(GET.repeat(100).slice(30));
    await nextTurn();
    client.feed(GET);
    await nextTurn();
    assert.equal(client.sent.split('HTTP/1.1 ').length, 2);
    client.destroy();
  });

  test('that is no request is answered, too', async () => {
    const desk = new Desk();
    for (const [bytes, status] of [
      ['nonsense\r\n\r\n', 400],
      ['PRI * HTTP/2.0\r\n\r\n', 400],
      ['CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n', 400],
      [`GET / HTTP/1.1\r\nX: ${'x'.repeat(8192)}`, 431],
    ] as const) {
      const client = desk.open(bytes);
      await nextTurn();
      assert.match(client.sent, new RegExp(`^HTTP/1\\.1 ${status} `, 'u'), bytes.slice(0, 40));
      client.destroy();
    }
  });
});

test('where too many connections speak HTTP, the oldest makes room, and one that comes whole is answered', () => {
  const desk = new Desk();
  const clients = Array.from({ length: MAX_HTTP_CONNECTIONS + 10 }, () => desk.open('GET / HTTP/1.1\r\n'));
  assert.equal(
    count(clients, ({ isClosed }) => isClosed),
    10,
  );
  for (const { isClosed, sent } of clients.slice(0, 10)) {
    assert.ok(isClosed);
    assert.match(sent, /^HTTP\/1\.1 503 /u);
  }
  assert.equal(desk.left, 10);
  const whole = desk.open(UPGRADE);
  assert.match(whole.sent, /^HTTP\/1\.1 101 /u);
  for (const client of clients) if (!client.isClosed) client.destroy();
  assert.equal(desk.left, clients.length);
});
