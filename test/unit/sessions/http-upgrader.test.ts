import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { AdmissionControl } from '../../../src/sessions/admission-control.ts';
import type { AcceptedConnection } from '../../../src/sessions/admission-control.ts';
import { HttpUpgrader, MAX_HTTP_CONNECTIONS } from '../../../src/sessions/http-upgrader.ts';
import type { ClientTransport } from '../../../src/transport/client-transport.ts';
import { AcmeChallenges } from '../../../src/transport/acme-challenges.ts';
import { IoBackend } from '../../../src/transport/io-backend.ts';
import { WebSocketTransport } from '../../../src/transport/websocket-transport.ts';
import { ScriptedStream } from '../../support/scripted-stream.ts';
import { UPGRADE_LINES } from '../../support/frames.ts';

const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
const UPGRADE = `${UPGRADE_LINES.join('\r\n')}\r\n\r\n`;

/** A stream that records what is sent. Its client never closes its own end. */
class SilentClient extends ScriptedStream {
  sent = '';
  isClosed = false;

  override write(bytes?: Uint8Array): boolean {
    this.sent += Buffer.from(bytes ?? []).toString('latin1');
    return true;
  }

  override end(): void {
    // The FIN is not answered.
  }

  /** The client closes its own end. */
  feedEnd(): void {
    super.end();
  }

  override abort(): void {
    this.isClosed = true;
    super.abort();
  }
}

/** An upgrader and its connections. */
class Fixture {
  /** The bytes that each WebSocket client sent before the response to its upgrade. */
  readonly earlyBytes: string[] = [];
  readonly connections: AcceptedConnection[] = [];
  readonly challenges = new AcmeChallenges();
  readonly admission = new AdmissionControl({
    handshakeTimeoutMs: null,
    maxConnections: 100_000,
    maxWaiting: null,
    proxies: null,
    addressLimit: null,
    wallClock: () => 0,
    monotonicClock: () => 0,
  });
  readonly #upgrader = new HttpUpgrader({
    backend: IoBackend.withStandardStreams(),
    admission: this.admission,
    sessions: { accept: (transport) => this.#accept(transport) },
    pingIntervalMs: 30_000,
    challenges: this.challenges,
  });

  /** Connections that were closed before they were WebSocket clients. */
  get released(): number {
    return this.admission.totalConnections - this.admission.connections;
  }

  open(firstBytes: string): SilentClient {
    const client = new SilentClient();
    const accepted = this.admission.accept(null);
    assert.ok(accepted !== null);
    this.connections.push(accepted);
    this.#upgrader.serve(client, accepted, Buffer.from(firstBytes, 'latin1'));
    return client;
  }

  #accept(transport: ClientTransport): void {
    assert.ok(transport instanceof WebSocketTransport);
    // Stops its pings.
    transport.onClose();
    const at = this.earlyBytes.push('') - 1;
    transport.onBytes = (bytes) => {
      this.earlyBytes[at] = Buffer.from(bytes).toString('latin1');
    };
  }
}

function count(clients: readonly SilentClient[], holds: (client: SilentClient) => boolean): number {
  return clients.filter((client) => holds(client)).length;
}

const isAnswered = ({ sent }: SilentClient): boolean => sent.startsWith('HTTP/1.1 ');

describe('simultaneous requests', () => {
  test('are answered, 64 in each tick of the event loop', async () => {
    const upgrader = new Fixture();
    const clients = Array.from({ length: 200 }, () => upgrader.open(GET));
    assert.equal(count(clients, isAnswered), 64);
    await nextTurn();
    // Both are immediates of this tick, in either order.
    const second = count(clients, isAnswered);
    assert.ok(second === 64 || second === 128, String(second));
    for (let turns = 0; turns < 4; turns += 1) await nextTurn();
    assert.equal(count(clients, isAnswered), 200);
    for (const { sent } of clients) assert.match(sent, /^HTTP\/1\.1 200 (?:(?!HTTP\/1\.1)[^])*$/u);
    for (const client of clients) client.abort();
    assert.equal(upgrader.released, 200);
  });

  test('that are upgrades keep the bytes sent after them, up to a limit, and are read again', async () => {
    const upgrader = new Fixture();
    const others = Array.from({ length: 64 }, () => upgrader.open(GET));
    const exact = upgrader.open(UPGRADE + 'x'.repeat(16_384));
    const excess = upgrader.open(UPGRADE + 'x'.repeat(16_385));
    assert.deepEqual([exact.isPaused, excess.isPaused], [true, true]);
    for (let turns = 0; turns < 3; turns += 1) await nextTurn();
    assert.match(exact.sent, /^HTTP\/1\.1 101 /u);
    assert.equal(exact.isPaused, false);
    assert.deepEqual(upgrader.earlyBytes, ['x'.repeat(16_384)]);
    assert.match(excess.sent, /^HTTP\/1\.1 400 /u);
    for (const client of [...others, excess]) client.abort();
  });

  test('are released if they are closed before the response', async () => {
    const upgrader = new Fixture();
    const clients = Array.from({ length: 70 }, () => upgrader.open(GET));
    for (const client of clients) client.abort();
    for (let turns = 0; turns < 3; turns += 1) await nextTurn();
    assert.equal(upgrader.released, 70);
    assert.equal(count(clients, isAnswered), 64);
  });
});

describe('a request', () => {
  test('is the only one of its connection, for any bytes after it and any split', async () => {
    const upgrader = new Fixture();
    const client = upgrader.open(GET.repeat(100).slice(0, 30));
    client.feed(GET.repeat(100).slice(30));
    await nextTurn();
    client.feed(GET);
    await nextTurn();
    assert.equal(client.sent.split('HTTP/1.1 ').length, 2);
    client.abort();
  });

  test('that is invalid is answered, too', async () => {
    const upgrader = new Fixture();
    for (const [bytes, status] of [
      ['nonsense\r\n\r\n', 400],
      ['PRI * HTTP/2.0\r\n\r\n', 400],
      ['CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n', 405],
      [`GET / HTTP/1.1\r\nX: ${'x'.repeat(8192)}`, 431],
    ] as const) {
      const client = upgrader.open(bytes);
      await nextTurn();
      assert.match(client.sent, new RegExp(`^HTTP/1\\.1 ${status} `, 'u'), bytes.slice(0, 40));
      client.abort();
    }
  });
});

describe('the response', () => {
  const KEY = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
  const CASES: readonly (readonly [request: string, status: number, body: RegExp])[] = [
    ['GET / HTTP/1.0', 200, /^This is a .* transit relay\..*\n$/u],
    ['HEAD / HTTP/1.0', 200, /^$/u],
    ['GET /?x=1 HTTP/1.1\r\nHost: x\r\nAccept: */*', 200, /^This is a .* transit relay\./u],
    ['GET /any HTTP/1.1\r\nHost: x\r\nAccept: text/html', 200, /^<!doctype html>/u],
    ['HEAD / HTTP/1.1\r\nHost: x\r\nAccept: text/html', 200, /^$/u],
    ['GET /any HTTP/1.1\r\nHost: x', 426, /transit relay/u],
    // A proxy has removed the headers of one connection.
    [`GET / HTTP/1.1\r\nHost: x\r\n${KEY}`, 426, /transit relay/u],
    ['GET /healthz HTTP/1.0', 200, /^ok\n$/u],
    ['GET /healthz?now HTTP/1.1\r\nHost: x\r\nAccept: text/html', 200, /^ok\n$/u],
    ['HEAD /healthz HTTP/1.0', 200, /^$/u],
    ['OPTIONS * HTTP/1.1\r\nHost: x', 405, /^method not allowed\n$/u],
    ['POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3', 405, /^method not allowed\n$/u],
    ['PROPFIND / HTTP/1.1\r\nHost: x', 405, /^method not allowed\n$/u],
    ['CONNECT x:1 HTTP/1.1\r\nHost: x', 405, /^$/u],
    // From Java clients and curl.
    [
      'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk',
      200,
      /relay/u,
    ],
    ['HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c', 200, /^$/u],
    [
      'POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3',
      405,
      /allowed/u,
    ],
  ];
  for (const [request, status, body] of CASES) {
    test(`to ${JSON.stringify(request)} is ${status}`, () => {
      const client = new Fixture().open(`${request}\r\n\r\n`);
      const [head = '', receivedBody = ''] = client.sent.split('\r\n\r\n', 2);
      assert.match(head, new RegExp(`^HTTP/1\\.1 ${status} `, 'u'));
      assert.match(receivedBody, body);
      assert.match(head, /^connection: close$/imu);
      if (status === 405) assert.match(head, /^allow: GET, HEAD$/imu);
      const length = Number(/^content-length: (\d+)$/imu.exec(head)?.[1]);
      if (request.startsWith('HEAD')) assert.ok(length > 0);
      else assert.equal(length, receivedBody.length);
      client.abort();
    });
  }

  test('to a health check is 503 while the relay drains', () => {
    const upgrader = new Fixture();
    upgrader.admission.isDraining = true;
    for (const [method, body] of [
      ['GET', /\r\n\r\nthe relay is stopping\n$/u],
      ['HEAD', /\r\n\r\n$/u],
    ] as const) {
      const client = upgrader.open(`${method} /healthz HTTP/1.0\r\n\r\n`);
      assert.match(client.sent, /^HTTP\/1\.1 503 /u);
      assert.match(client.sent, body);
      client.abort();
    }
  });
});

describe('an upgrade with a body', () => {
  const LINES = UPGRADE_LINES.join('\r\n');
  const CHUNKED = `${LINES}\r\nTransfer-Encoding: chunked\r\n\r\n`;

  test('is accepted if the body is empty, and the bytes after it belong to the client', () => {
    for (const request of [`${CHUNKED}0\r\n\r\n`, `${LINES}\r\nContent-Length: 0\r\n\r\n`]) {
      for (let at = 1; at <= request.length; at += 1) {
        const upgrader = new Fixture();
        const client = upgrader.open(request.slice(0, at));
        if (at < request.length) {
          assert.equal(client.sent, '');
          client.feed(`${request.slice(at)}early`);
        }
        assert.match(client.sent, /^HTTP\/1\.1 101 /u, String(at));
        assert.deepEqual(upgrader.earlyBytes, [at < request.length ? 'early' : '']);
        client.abort();
      }
    }
  });

  test('is rejected if the body is not empty, without waiting for the rest of it', () => {
    for (const request of [
      `${CHUNKED}5`,
      `${CHUNKED}0\r\nX`,
      `${CHUNKED}00\r\n\r\n`,
      `${CHUNKED}\x82\x80`,
      `${LINES}\r\nContent-Length: 5\r\n\r\n`,
      `${LINES}\r\nContent-Length: 5\r\n\r\nhello`,
      `${LINES}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
    ]) {
      const upgrader = new Fixture();
      const client = upgrader.open(request);
      assert.match(
        client.sent,
        /^HTTP\/1\.1 400 (?:(?!HTTP\/1\.1)[^])*$/u,
        JSON.stringify(request.slice(-30)),
      );
      assert.deepEqual(upgrader.earlyBytes, []);
      client.abort();
    }
  });

  test('that never arrives is closed like an incomplete head', () => {
    const upgrader = new Fixture();
    const late = upgrader.open(`${CHUNKED}0\r\n`);
    upgrader.connections[0]?.phase?.onTimeout();
    assert.match(late.sent, /^HTTP\/1\.1 408 /u);
    const ended = upgrader.open(CHUNKED);
    ended.feedEnd();
    assert.ok(late.isClosed && ended.isClosed);
    assert.equal(upgrader.released, 2);
  });
});

test('if too many connections speak HTTP, the oldest is closed, and a complete request is answered', () => {
  const upgrader = new Fixture();
  const clients = Array.from({ length: MAX_HTTP_CONNECTIONS + 10 }, () =>
    upgrader.open('GET / HTTP/1.1\r\n'),
  );
  assert.equal(
    count(clients, ({ isClosed }) => isClosed),
    10,
  );
  for (const { isClosed, sent } of clients.slice(0, 10)) {
    assert.ok(isClosed);
    assert.match(sent, /^HTTP\/1\.1 503 /u);
  }
  assert.equal(upgrader.released, 10);
  const complete = upgrader.open(UPGRADE);
  assert.match(complete.sent, /^HTTP\/1\.1 101 /u);
  for (const client of clients) if (!client.isClosed) client.abort();
  assert.equal(upgrader.released, clients.length);
});
