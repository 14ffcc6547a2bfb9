import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { RequestListener } from 'node:http';
import { createServer as createRawServer } from 'node:net';
import type { Server } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { RelayClient } from '../../src/sidecar/relay-client.ts';
import type { RelayStatus } from '../../src/status/relay-status.ts';
import { UNLIMITED_STATUS } from '../support/unlimited-status.ts';

const STATUS: RelayStatus = {
  started: '2026-11-22T05:00:00.000Z',
  uptime_seconds: 86_400,
  draining: false,
  pairs: 2,
  waiting: 1,
  relayed_bytes: 1000,
  bytes_per_second: 10.5,
  ...UNLIMITED_STATUS,
};

/** Listens on a free loopback port until the test ends. Returns its URL. */
async function open(context: TestContext, server: Server, close: () => void): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(close);
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return `http://127.0.0.1:${address.port}`;
}

function serve(context: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  return open(context, server, () => {
    server.close();
    server.closeAllConnections();
  });
}

/** A server that answers every request with these bytes and closes the connection. */
function serveBytes(context: TestContext, bytes: string): Promise<string> {
  const server = createRawServer((socket) => {
    socket.on('error', () => undefined).once('data', () => socket.end(bytes));
  });
  return open(context, server, () => server.close());
}

function answering(status: number, value: unknown): RequestListener {
  return (_request, response) => response.writeHead(status).end(JSON.stringify(value));
}

/** The problem in status and health, which must be the same. */
async function problemAt(url: string): Promise<string> {
  const client = new RelayClient(url);
  const [state, health] = [await client.state(), await client.health('transfer')];
  assert.ok(state.state === 'down' && !health.ok);
  assert.deepEqual(state, { state: 'down', problem: health.problem });
  return state.problem;
}

describe('the relay client', () => {
  test("returns the relay's status", async (context) => {
    const paths: unknown[] = [];
    const url = await serve(context, (request, response) => {
      paths.push(request.url);
      const health = { ok: true, problem: null, transfers: [{ ok: true }] };
      response.end(JSON.stringify(request.url === '/status.json' ? STATUS : health));
    });
    const client = new RelayClient(url);
    assert.deepEqual(await client.state(), { state: 'up', ...STATUS });
    const healthy = { ok: true, problem: null, transfers: [{ ok: true }] };
    assert.deepEqual(await client.health('relay'), healthy);
    assert.deepEqual(await client.health('transfer'), healthy);
    assert.deepEqual(paths, ['/status.json', '/health/relay', '/health/transfer']);
  });

  test('returns failed health checks, which have another status code', async (context) => {
    const bad = { ok: false, problem: 'two clients were not paired', transfers: [] };
    const client = new RelayClient(await serve(context, answering(503, bad)));
    assert.deepEqual(await client.health('transfer'), bad);
  });

  test('shares one request between concurrent callers', async (context) => {
    let asked = 0;
    const url = await serve(context, (_request, response) => {
      asked += 1;
      response.end(JSON.stringify(STATUS));
    });
    const client = new RelayClient(url);
    const states = await Promise.all(Array.from({ length: 50 }, () => client.state()));
    assert.equal(new Set(states).size, 1);
    assert.equal(asked, 1);
  });

  test('does not mistake another service for the relay', async (context) => {
    const strangers: readonly (readonly [name: string, url: Promise<string>])[] = [
      ['a web page', serveBytes(context, 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>')],
      ['the clients’ own port', serveBytes(context, 'bad handshake\n')],
      ['a redirect', serveBytes(context, 'HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n')],
      ['null', serve(context, answering(200, null))],
      ['a list', serve(context, answering(200, [STATUS]))],
      ['a word', serve(context, answering(200, 'ok'))],
      ['another program', serve(context, answering(200, { state: 'up', started: 'now' }))],
      ['half a status', serve(context, answering(200, { ...STATUS, waiting: undefined }))],
      [
        'a strange status',
        serve(context, answering(200, { ...STATUS, pairs: '2', ok: 'yes', problem: null })),
      ],
    ];
    for (const [name, opening] of strangers) {
      const url = await opening;
      assert.equal(await problemAt(url), `the service at ${url} is not a compatible transit relay`, name);
    }
  });

  test('says why there is no response', async (context) => {
    const closed = createRawServer();
    const url = await open(context, closed, () => undefined);
    closed.close();
    await once(closed, 'close');
    assert.equal(await problemAt(url), `the relay's status port does not answer at ${url} (ECONNREFUSED)`);
    // A port that browsers and fetch block.
    assert.match(await problemAt('http://127.0.0.1:6000'), /does not answer at .+ \(bad port\)$/u);
    const rude = await serveBytes(context, '');
    assert.match(await problemAt(rude), /does not answer at .+ \(UND_ERR_SOCKET\)$/u);
  });

  test('times out when the relay hangs', async (context) => {
    const silent = await serve(context, () => undefined);
    const halfway = await serve(context, (_request, response) => response.write('{"ok":'));
    for (const url of [silent, halfway]) {
      const problem = `the relay's status port does not answer at ${url} (timeout)`;
      assert.equal(await problemAt(url), problem);
    }
  });
});
