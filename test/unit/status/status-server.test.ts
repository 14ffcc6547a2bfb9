import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { HealthProbes } from '../../../src/status/health-probes.ts';
import type { RelayStatus } from '../../../src/status/relay-status.ts';
import { createStatusServer } from '../../../src/status/status-server.ts';
import type { StatusSource } from '../../../src/status/status-server.ts';
import { listening } from '../../support/listening.ts';
import { UNLIMITED_STATUS } from '../../support/metrics.ts';
import { until } from '../../support/scratch.ts';

const STATUS: RelayStatus = {
  started: '2026-11-23T05:00:00.000Z',
  uptime_seconds: 61,
  draining: false,
  pairs: 2,
  waiting: 3,
  relayed_bytes: 40_000,
  bytes_per_second: 5,
  ...UNLIMITED_STATUS,
};

const IDLE: StatusSource = {
  status: () => STATUS,
  rejectionProblem: () => null,
  probes: () => null,
  metrics: {
    contentType: 'text/plain; version=0.0.4; charset=utf-8',
    render: () => Promise.resolve('up 1\n'),
  },
  onInternalError: (error) => {
    throw error;
  },
};

/** No server can listen there, so every probe fails immediately. */
const UNREACHABLE = {
  kind: 'unix',
  path: '/no/such/directory/relay.sock',
  mode: null,
  backlog: null,
} as const;

const REGISTRY = { registerProbe: () => undefined, unregisterProbe: () => undefined };

/** Opens a status server that reports `source`, and returns its port. */
function open(context: TestContext, source: StatusSource): Promise<number> {
  return listening(context, createStatusServer(source));
}

/** Everything received in response to `bytes` until the connection ends. */
async function answerTo(port: number, bytes: string): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1' });
  await once(socket, 'connect');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => undefined);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.end(bytes);
  await closed;
  return Buffer.concat(chunks).toString();
}

const request = (line: string): string => `${line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;

describe('the status server', () => {
  test('answers /healthz and /livez, with a query too', async (context) => {
    const port = await open(context, IDLE);
    for (const path of ['/healthz', '/livez', '/healthz?verbose', '/livez?']) {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      assert.deepEqual([response.status, await response.text()], [200, 'ok\n']);
      assert.equal(response.headers.get('cache-control'), 'no-store');
    }
  });

  test('renders the metrics for each request', async (context) => {
    let count = 0;
    const metrics = {
      contentType: 'text/plain; version=0.0.4; charset=utf-8',
      render: () => Promise.resolve(`asked ${(count += 1)}\n`),
    };
    const port = await open(context, { ...IDLE, metrics });
    for (const expected of ['asked 1\n', 'asked 2\n']) {
      const response = await fetch(`http://127.0.0.1:${port}/metrics`);
      assert.equal(response.headers.get('content-type'), metrics.contentType);
      assert.deepEqual([response.status, await response.text()], [200, expected]);
    }
  });

  test('answers one request per connection, even with many pipelined requests', async (context) => {
    let asked = 0;
    const render = (): Promise<string> => Promise.resolve(`asked ${(asked += 1)}\n`);
    const port = await open(context, { ...IDLE, metrics: { ...IDLE.metrics, render } });
    const answers = await answerTo(port, 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1000));
    const [first = '', ...others] = answers.split(/(?=HTTP\/1\.1 )/u);
    assert.match(first, /^HTTP\/1\.1 200 [^]*^connection: close\r\n\r\nasked 1\n$/imu);
    for (const other of others) assert.match(other, /^HTTP\/1\.1 503 /u);
    assert.equal(asked, 1);
  });

  test('aborts a response that fails, reports the error, and keeps serving', async (context) => {
    const errors: unknown[] = [];
    const failure = new Error('no values');
    const metrics = { ...IDLE.metrics, render: () => Promise.reject(failure) };
    const port = await open(context, { ...IDLE, metrics, onInternalError: (error) => errors.push(error) });
    assert.equal(await answerTo(port, request('GET /metrics')), '');
    assert.deepEqual(errors, [failure]);
    assert.match(await answerTo(port, request('GET /livez')), /^HTTP\/1\.1 200 /u);
  });

  test('is live but not ready while the relay drains', async (context) => {
    const port = await open(context, { ...IDLE, status: () => ({ ...STATUS, draining: true }) });
    for (const [path, expected] of [
      ['/livez', 200],
      ['/readyz', 503],
    ] as const) {
      assert.equal((await fetch(`http://127.0.0.1:${port}${path}`)).status, expected);
    }
  });

  test('is ready from the start of listening until the drain', async (context) => {
    let draining = false;
    let probes: HealthProbes | null = null;
    const port = await open(context, {
      ...IDLE,
      status: () => ({ ...STATUS, draining }),
      probes: () => probes,
    });
    const ready = async (): Promise<readonly [number, string]> => {
      const response = await fetch(`http://127.0.0.1:${port}/readyz`);
      return [response.status, await response.text()];
    };
    assert.deepEqual(await ready(), [503, 'the relay is starting\n']);
    probes = new HealthProbes([], [], REGISTRY);
    assert.deepEqual(await ready(), [200, 'ok\n']);
    draining = true;
    assert.deepEqual(await ready(), [503, 'the relay is stopping\n']);
  });

  test('closes the oldest of more than 32 silent connections and answers new ones', async (context) => {
    const port = await open(context, IDLE);
    const sockets = Array.from({ length: 40 }, () => connect({ port, host: '127.0.0.1' }));
    context.after(() => sockets.forEach((socket) => socket.destroy()));
    const closed = new Set<number>();
    for (const [index, socket] of sockets.entries()) {
      socket.on('error', () => undefined);
      socket.on('close', () => closed.add(index)).resume();
    }
    assert.equal((await fetch(`http://127.0.0.1:${port}/healthz`)).status, 200);
    // The request timeout closes the others.
    await until(() => closed.size === 40);
    assert.deepEqual(
      [...closed].slice(0, 9).toSorted((one, other) => one - other),
      [0, 1, 2, 3, 4, 5, 6, 7, 8],
    );
  });

  test('closes the oldest of more than 16 connections with a pending response', async (context) => {
    const metrics = { ...IDLE.metrics, render: () => new Promise<string>(() => undefined) };
    const port = await open(context, { ...IDLE, metrics });
    let closed = 0;
    for (let count = 1; count <= 20; count += 1) {
      const socket = connect({ port, host: '127.0.0.1' }).on('error', () => undefined);
      context.after(() => socket.destroy());
      socket.on('close', () => (closed += 1));
      socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n');
      await until(() => closed === Math.max(0, count - 16));
      assert.equal((await fetch(`http://127.0.0.1:${port}/livez`)).status, 200);
    }
    assert.equal(closed, 4);
  });

  test('reads the status for each request', async (context) => {
    let pairs = 0;
    const port = await open(context, {
      ...IDLE,
      status: () => {
        pairs += 1;
        return { ...STATUS, pairs };
      },
    });
    for (const expected of [1, 2]) {
      const response = await fetch(`http://127.0.0.1:${port}/status.json`);
      assert.equal(response.headers.get('content-type'), 'application/json');
      assert.deepEqual(await response.json(), { ...STATUS, pairs: expected });
    }
  });

  test('answers HEAD like GET without the body', async (context) => {
    const port = await open(context, IDLE);
    for (const [path, status, length] of [
      ['/healthz', 200, 3],
      ['/status.json', 200, JSON.stringify(STATUS).length + 1],
      ['/health/relay', 503, null],
      ['/nothing', 404, 10],
    ] as const) {
      const answer = await answerTo(port, request(`HEAD ${path}`));
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `, 'u'));
      if (length !== null) assert.match(answer, new RegExp(`^content-length: ${length}\r$`, 'mu'));
      assert.match(answer, /\r\n\r\n$/u);
    }
  });

  test('rejects other methods and lists the allowed ones', async (context) => {
    const port = await open(context, IDLE);
    for (const path of ['/healthz', '/status.json', '/health/relay', '/health/transfer']) {
      for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
        const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
        assert.deepEqual([response.status, response.headers.get('allow')], [405, 'GET, HEAD']);
        assert.equal(await response.text(), '');
      }
    }
  });

  test('answers 404 to other paths', async (context) => {
    const port = await open(context, IDLE);
    for (const path of [
      '/',
      '//',
      '/healthz/',
      '/HEALTHZ',
      '/health',
      '/health/',
      '/status.json/',
      '/%68ealthz',
    ]) {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      assert.deepEqual([path, response.status, await response.text()], [path, 404, 'not found\n']);
    }
    assert.equal((await fetch(`http://127.0.0.1:${port}/nothing`, { method: 'POST' })).status, 404);
  });

  test('survives request targets that are no URLs, and requests that are not HTTP', async (context) => {
    const port = await open(context, IDLE);
    const cases: readonly (readonly [bytes: string, status: number])[] = [
      [request('GET //[:'), 404],
      [request('GET /%zz'), 404],
      [request('GET http://['), 404],
      [request('GET ?'), 400],
      [request('OPTIONS *'), 404],
      [request('GET /\0'), 400],
      ['garbage\r\n\r\n', 400],
      ['please relay 0000\n', 400],
      [request(`GET /${'x'.repeat(20_000)}`), 431],
    ];
    for (const [bytes, status] of cases) {
      const answer = await answerTo(port, bytes);
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `, 'u'), bytes.slice(0, 40));
    }
    assert.equal((await fetch(`http://127.0.0.1:${port}/healthz`)).status, 200);
  });
});

describe('a health check of the status server', () => {
  const ask = async (port: number, word: string): Promise<unknown[]> => {
    const response = await fetch(`http://127.0.0.1:${port}/health/${word}`);
    return [response.status, await response.json()];
  };

  test('reports that the relay is starting before it listens', async (context) => {
    const port = await open(context, IDLE);
    const problem = 'the relay is starting';
    assert.deepEqual(await ask(port, 'relay'), [503, { ok: false, problem, listeners: [] }]);
    assert.deepEqual(await ask(port, 'transfer'), [503, { ok: false, problem, transfers: [] }]);
  });

  test('reports in one line which listeners fail and why', async (context) => {
    const probes = new HealthProbes([UNREACHABLE], [UNREACHABLE], REGISTRY);
    const port = await open(context, { ...IDLE, probes: () => probes });
    const name = 'unix:/no/such/directory/relay.sock';
    const failures = [
      `raw ${name}: no connection (ENOENT)`,
      `websocket ${name}: no connection (ENOENT)`,
      `raw ${name} to websocket ${name}: no connection (ENOENT)`,
    ];
    for (const [word, expected] of [
      ['relay', failures.slice(0, 2)],
      ['transfer', failures],
    ] as const) {
      const [status, report] = await ask(port, word);
      assert.equal(status, 503);
      assert.ok(typeof report === 'object' && report !== null && 'problem' in report && 'ok' in report);
      assert.deepEqual([report.ok, report.problem], [false, expected.join('; ')]);
    }
  });

  test('sends no probes while the relay drains, because another process may listen there', async (context) => {
    let registered = 0;
    const registry = {
      ...REGISTRY,
      registerProbe: () => {
        registered += 1;
      },
    };
    const probes = new HealthProbes([UNREACHABLE], [], registry);
    const draining = { ...IDLE, status: () => ({ ...STATUS, draining: true }), probes: () => probes };
    const port = await open(context, draining);
    const problem = 'the relay is stopping';
    assert.deepEqual(await ask(port, 'relay'), [503, { ok: false, problem, listeners: [] }]);
    assert.deepEqual(await ask(port, 'transfer'), [503, { ok: false, problem, transfers: [] }]);
    assert.equal(registered, 0);
  });
});
