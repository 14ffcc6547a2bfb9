import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { get as getHttp } from 'node:http';
import { get as getHttps } from 'node:https';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { TrustedProxies, parseCidrs } from '../../src/config/trusted-proxies.ts';
import { SIDE_A, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { UPGRADE, encodeFrame } from '../support/frames.ts';
import { findProgram } from '../support/programs.ts';
import { TestClock } from './test-clock.ts';
import { TestRelay } from '../support/test-relay.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import { until } from '../support/scratch.ts';
import { certificate, readBytes } from './one-port-suite.ts';

async function open(context: TestContext, options: TestRelayOptions = {}): Promise<TestRelay> {
  const relay = await TestRelay.open({ certificate, ...options });
  context.after(() => relay.close());
  return relay;
}

/** A raw connection to the shared port. */
async function connectSocket(relay: TestRelay, context: TestContext): Promise<Socket> {
  const socket = connect({ port: relay.tcpPort, host: '127.0.0.1', allowHalfOpen: true });
  context.after(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Requests of monitors, load balancers and other HTTP clients, with the expected status. */
const REQUESTS: readonly (readonly [request: string, status: number])[] = [
  ['GET / HTTP/1.0\r\n\r\n', 200],
  ['HEAD / HTTP/1.1\r\nHost: r\r\nAccept: */*\r\n\r\n', 200],
  ['GET /healthz HTTP/1.1\r\nHost: r\r\nUser-Agent: kube-probe/1.33\r\n\r\n', 200],
  ['HEAD /healthz HTTP/1.0\r\n\r\n', 200],
  ...['OPTIONS', 'POST', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'PROPFIND'].map(
    (method) => [`${method} / HTTP/1.1\r\nHost: r\r\n\r\n`, 405] as const,
  ),
  ['CONNECT r:1 HTTP/1.1\r\nHost: r\r\n\r\n', 405],
  ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400],
];

/** What a port for clients does with each kind of connection, independent of other relays. */
export function clientPortSuite(): void {
  describe('the first bytes of a connection', () => {
    test('may arrive one at a time and be an upgrade', async (context) => {
      const relay = await open(context);
      const socket = await connectSocket(relay, context);
      socket.setNoDelay(true);
      for (const char of UPGRADE) {
        socket.write(char);
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.match((await readBytes(socket, 12)).toString(), /^HTTP\/1\.1 101 /u);
      assert.deepEqual(relay.summaries, []);
    });

    test('may resemble an upgrade and be a bad handshake', async (context) => {
      const relay = await open(context);
      const socket = await connectSocket(relay, context);
      socket.write('GE');
      await until(() => relay.admission.connections === 1);
      socket.write('T me a relay\n'.replace(' ', '_'));
      assert.equal(await text(socket), 'bad handshake\n');
      socket.end();
      const [summary] = await relay.waitForRecords(1);
      assert.equal(summary?.mood, 'errory');
    });

    test('are a bad handshake if they are TLS and there is no certificate', async (context) => {
      const relay = await TestRelay.open({});
      context.after(() => relay.close());
      const socket = await connectSocket(relay, context);
      socket.end(Buffer.from('1603010005\n', 'latin1'));
      assert.equal(await text(socket), 'bad handshake\n');
      const [summary] = await relay.waitForRecords(1);
      assert.equal(summary?.mood, 'errory');
    });

    test('may be missing: the connection has a record like that of a raw client', async (context) => {
      const relay = await open(context);
      for (const bytes of ['', 'G', 'GET']) {
        const socket = await connectSocket(relay, context);
        socket.end(bytes);
        assert.equal(await text(socket), '');
      }
      const summaries = await relay.waitForRecords(3);
      assert.deepEqual(
        summaries.map(({ mood }) => mood),
        ['empty', 'empty', 'empty'],
      );
      await until(() => relay.admission.connections === 0);
    });

    test('may end in the middle of TLS or HTTP without leaving state', async (context) => {
      const relay = await open(context);
      for (const bytes of ['16030100', 'GET / HTTP/1.1\r\nHost:']) {
        for (const reset of [true, false]) {
          const socket = await connectSocket(relay, context);
          socket.write(bytes.startsWith('G') ? bytes : Buffer.from(bytes, 'hex'));
          await until(() => relay.admission.connections === 1);
          if (reset) socket.resetAndDestroy();
          else socket.end();
          await until(() => relay.admission.connections === 0);
        }
      }
    });

    test('may be TLS with an invalid content without leaving state', async (context) => {
      const relay = await open(context);
      const socket = await connectSocket(relay, context);
      socket.write(Buffer.concat([Buffer.from('160301ffff', 'hex'), randomBytesOf(3, 4000)]));
      // A TLS alert and nothing else.
      const response = await buffer(socket);
      assert.deepEqual([response[0], response.length], [0x15, 7]);
      socket.end();
      await until(() => relay.admission.connections === 0);
    });
  });

  describe('a client that speaks TLS', () => {
    test('cannot use old versions of TLS', async (context) => {
      const relay = await open(context);
      const socket = connectTls({
        port: relay.tcpPort,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        minVersion: 'TLSv1',
        maxVersion: 'TLSv1.1',
        ciphers: 'DEFAULT@SECLEVEL=0',
      });
      const [error] = await once(socket, 'error');
      assert.match(String(error), /alert|protocol version/iu);
      await until(() => relay.admission.connections === 0);
    });

    test('cannot use TLS inside TLS', async (context) => {
      const relay = await open(context);
      const outer = connectTls({ port: relay.tcpPort, host: '127.0.0.1', rejectUnauthorized: false });
      await once(outer, 'secureConnect');
      outer.write(Buffer.from('1603010005\n', 'latin1'));
      assert.equal(await text(outer), 'bad handshake\n');
    });

    test('is closed by the handshake timeout, during and after the TLS handshake', async (context) => {
      const clock = new TestClock();
      const relay = await open(context, { timeouts: { handshakeMs: 50 }, clock: clock.now });
      const incomplete = await connectSocket(relay, context);
      incomplete.write(Buffer.from('1603010200', 'hex'));
      incomplete.resume();
      const complete = connectTls({ port: relay.tcpPort, host: '127.0.0.1', rejectUnauthorized: false });
      complete.resume();
      // The server sends a session when its side of the handshake is complete, which is later than the client's.
      await once(complete, 'session');
      await until(() => relay.admission.connections === 2);
      clock.advance(50);
      await Promise.all([once(incomplete, 'end'), once(complete, 'end')]);
      incomplete.end();
      await until(() => relay.admission.connections === 0);
    });
  });

  describe('a browser that connects to a port for clients', () => {
    for (const [variant, isTls] of [
      ['plain', false],
      ['in TLS', true],
    ] as const) {
      test(`gets a page with the address, ${variant}`, async (context) => {
        const relay = await open(context);
        for (const port of [relay.tcpPort, relay.websocketPort]) {
          const options = {
            port,
            host: '127.0.0.1',
            headers: { accept: 'text/html' },
            rejectUnauthorized: false,
          };
          const request = isTls ? getHttps(options) : getHttp(options);
          const [response] = await once(request, 'response');
          assert.equal(response.statusCode, 200);
          assert.match(response.headers['content-type'], /^text\/html/u);
          assert.match(response.headers['content-security-policy'], /default-src 'none'/u);
          assert.match(await text(response), /wormhole --transit-helper=tcp:/u);
        }
        await until(() => relay.admission.connections === 0);
        assert.deepEqual(relay.summaries, []);
      });
    }
  });

  describe('a monitor that connects to a port for clients', () => {
    const proxies = new TrustedProxies(parseCidrs('127.0.0.0/8'));
    for (const backend of ['shared buffer', 'standard streams'] as const) {
      for (const [variant, isTls, header] of [
        ['plain', false, ''],
        ['in TLS', true, ''],
        ['behind a proxy', false, 'PROXY TCP4 192.0.2.1 127.0.0.1 1111 4001\r\n'],
      ] as const) {
        test(`gets an HTTP response and leaves no record, ${variant}, with ${backend}`, async (context) => {
          const relay = await open(context, { proxies, standardStreams: backend === 'standard streams' });
          for (const port of [relay.tcpPort, relay.websocketPort]) {
            const clients = REQUESTS.map(([request, status]) => {
              const plain = connect({ port, host: '127.0.0.1', noDelay: true });
              plain.write(header);
              const socket = isTls ? connectTls({ socket: plain, rejectUnauthorized: false }) : plain;
              // The space after the method arrives later.
              const methodEnd = request.indexOf(' ');
              socket.write(request.slice(0, methodEnd));
              return { plain, socket, rest: request.slice(methodEnd), status };
            });
            await until(() => relay.admission.connections === clients.length);
            await Promise.all(
              clients.map(async ({ plain, socket, rest, status }) => {
                socket.write(rest);
                const [head = ''] = (await text(socket)).split('\r\n');
                assert.match(head, new RegExp(`^HTTP/1\\.1 ${status} `, 'u'), rest);
                plain.destroy();
              }),
            );
            await until(() => relay.admission.connections === 0);
          }
          assert.deepEqual(relay.summaries, []);
        });
      }
    }

    test('gets the draining state from the health check only', async (context) => {
      const relay = await open(context);
      relay.admission.isDraining = true;
      for (const [path, status] of [
        ['/healthz', 503],
        ['/', 200],
      ] as const) {
        const request = getHttp({ port: relay.tcpPort, host: '127.0.0.1', path });
        const [response] = await once(request, 'response');
        assert.equal(response.statusCode, status);
        response.resume();
        await once(response, 'end');
      }
    });

    test('gets a response over a unix-domain socket', async (context) => {
      const relay = await open(context);
      const request = getHttp({ socketPath: relay.unixPath, path: '/healthz' });
      const [response] = await once(request, 'response');
      assert.equal(response.statusCode, 200);
      assert.equal(await text(response), 'ok\n');
      await until(() => relay.admission.connections === 0);
      assert.deepEqual(relay.summaries, []);
    });
  });

  // Some HTTP libraries send such a body.
  test('an upgrade with an empty chunked body is accepted, however it is split', async (context) => {
    const relay = await open(context);
    const [end, token] = ['\r\n\r\n', newToken()];
    const request = Buffer.concat([
      Buffer.from(`${UPGRADE.slice(0, -end.length)}\r\nTransfer-Encoding: chunked${end}0${end}`),
      encodeFrame({ opcode: 2, payload: handshake(token, SIDE_A) }),
    ]);
    for (const port of [relay.tcpPort, relay.websocketPort]) {
      for (const pieceBytes of [1, request.length]) {
        const socket = connect({ port, host: '127.0.0.1', noDelay: true });
        for (let at = 0; at < request.length; at += pieceBytes) {
          socket.write(request.subarray(at, at + pieceBytes));
          await new Promise((resolve) => setImmediate(resolve));
        }
        assert.match((await readBytes(socket, 12)).toString(), /^HTTP\/1\.1 101 /u);
        await until(() => relay.sessions.liveCounts().waiting === 1);
        socket.destroy();
        await until(() => relay.admission.connections === 0);
      }
    }
  });

  test('every TCP socket of a client has keepalive', async (context) => {
    const ss = findProgram('ss');
    if (ss === null) {
      context.skip('no "ss": install the Debian package iproute2');
      return;
    }
    const relay = await TestRelay.open();
    context.after(() => relay.close());
    for (const [transport, port] of [
      ['tcp', relay.tcpPort],
      ['websocket', relay.websocketPort],
    ] as const) {
      const startedAt = performance.now();
      await relay.connect(transport);
      await until(() => relay.admission.connections > 0);
      const sockets = spawnSync(ss, ['-Hnto', 'state', 'established', `sport = :${port}`]).stdout.toString();
      const elapsedSeconds = Math.ceil((performance.now() - startedAt) / 1000);
      // Time until the first probe; 30 s are configured.
      const [, remaining] = /timer:\(keepalive,(\d+)sec/u.exec(sockets) ?? [];
      assert.ok(Number(remaining) <= 30 && Number(remaining) >= 30 - elapsedSeconds, sockets);
    }
  });
}
