import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { BoundEndpoint } from '../../../src/config/endpoint.ts';
import { HealthProbes } from '../../../src/status/health-probes.ts';
import type { ProbeResult } from '../../../src/status/health-probes.ts';
import { listening } from '../../support/listening.ts';
import { until } from '../../support/scratch.ts';

/** Time limit of a probe, in milliseconds. */
const TIMEOUT_MS = 1200;

const REGISTRY = { registerProbe: () => undefined, unregisterProbe: () => undefined };

/** Starts `server` and returns its endpoint. The server and its connections are closed after the test. */
async function listen(context: TestContext, server: Server): Promise<BoundEndpoint> {
  const port = await listening(context, server);
  return { kind: 'tcp', port, interface: '127.0.0.1', backlog: null, tls: null };
}

/** Starts a listener that passes each connection to `onConnection`. */
const listener = (context: TestContext, onConnection: (socket: Socket) => void): Promise<BoundEndpoint> =>
  listen(context, createServer(onConnection));

/** Starts a listener that replies `ok` to each handshake, and to other bytes with `answer`. */
const pairing = (context: TestContext, answer: (bytes: Buffer) => Uint8Array): Promise<BoundEndpoint> =>
  listener(context, (socket) => {
    socket.once('data', () => {
      socket.write('ok\n');
      socket.on('data', (bytes: Buffer) => socket.write(answer(bytes)));
    });
  });

/** An endpoint on which nothing listens. */
async function unreachable(context: TestContext): Promise<BoundEndpoint> {
  const server = createServer();
  const endpoint = await listen(context, server);
  server.close();
  await once(server, 'close');
  return endpoint;
}

/** The distinct problems. On a busy machine more probes may time out, but there are no other problems. */
function problemsOf(results: readonly ProbeResult[]): (string | null)[] {
  for (const { ok, problem, milliseconds } of results) {
    assert.equal(ok, problem === null);
    assert.ok(milliseconds > 0, `${milliseconds} ms`);
  }
  return [...new Set(results.map(({ problem }) => problem))];
}

type Case = readonly [
  name: string,
  open: (context: TestContext) => Promise<BoundEndpoint>,
  listeners: string,
  transfers: string,
];

const casesWithoutTimeout: readonly Case[] = [
  ['without a server', unreachable, 'no connection (ECONNREFUSED)', 'no connection (ECONNREFUSED)'],
  [
    'that closes immediately',
    (context) => listener(context, (socket) => socket.end()),
    'the relay did not accept a client',
    'two clients were not paired',
  ],
  [
    'that replies something else',
    (context) => listener(context, (socket) => socket.end('bad handshake\n')),
    'the relay did not accept a client',
    'two clients were not paired',
  ],
];

const casesWithTimeout: readonly Case[] = [
  [
    'that corrupts relayed bytes',
    (context) => pairing(context, (bytes) => bytes.map((byte) => byte ^ 1)),
    `timed out after ${TIMEOUT_MS} ms`,
    'received bytes differ from sent bytes',
  ],
  [
    'that relays to the wrong client',
    (context) => pairing(context, (bytes) => bytes),
    `timed out after ${TIMEOUT_MS} ms`,
    'received bytes differ from sent bytes',
  ],
  [
    'that never replies',
    (context) => listener(context, (socket) => socket.resume()),
    `timed out after ${TIMEOUT_MS} ms`,
    `timed out after ${TIMEOUT_MS} ms`,
  ],
];

function testProblems(cases: readonly Case[]): void {
  for (const [name, open, listeners, transfers] of cases) {
    test(`${name} reports the problem`, async (context) => {
      const probes = new HealthProbes([await open(context)], [], REGISTRY);
      assert.deepEqual(problemsOf(await probes.listeners()), [listeners]);
      assert.deepEqual(problemsOf(await probes.transfers()), [transfers]);
    });
  }
}

// One after the other and first, so that on a busy machine no other test makes them time out.
describe('a probe of a listener', () => testProblems(casesWithoutTimeout));

describe('a probe that may time out', { concurrency: true }, () => {
  testProblems(casesWithTimeout);

  test('for WebSocket reports a closed, silent or plain HTTP server', async (context) => {
    const http = createHttpServer((_request, response) => response.writeHead(426).end());
    const endpoints = [
      await unreachable(context),
      await listener(context, (socket) => socket.end()),
      await listener(context, (socket) => socket.resume()),
      await listen(context, http),
    ];
    const probes = new HealthProbes([], endpoints, REGISTRY);
    for (const results of [await probes.listeners(), await probes.transfers()]) {
      assert.deepEqual(
        results.map(({ problem }) => problem),
        [
          'no connection (ECONNREFUSED)',
          'no connection (ECONNRESET)',
          `timed out after ${TIMEOUT_MS} ms`,
          'no connection (Unexpected server response: 426)',
        ],
      );
    }
  });

  test('that never replies fails after the timeout and not before', async (context) => {
    const endpoint = await listener(context, (socket) => socket.resume());
    const [result] = await new HealthProbes([endpoint], [], REGISTRY).listeners();
    assert.ok(result !== undefined);
    assert.ok(result.milliseconds >= TIMEOUT_MS - 1, `${result.milliseconds} ms`);
    // This does not measure speed. It checks that the timeout of the probe ends it, not another timeout.
    assert.ok(result.milliseconds < 10 * TIMEOUT_MS, `${result.milliseconds} ms`);
  });

  test('has its own result, independent of other listeners', async (context) => {
    const silent = await listener(context, (socket) => socket.resume());
    const dead = await unreachable(context);
    const results = await new HealthProbes([silent, dead], [], REGISTRY).listeners();
    assert.deepEqual(
      results.map(({ problem }) => problem),
      [`timed out after ${TIMEOUT_MS} ms`, 'no connection (ECONNREFUSED)'],
    );
  });

  test('leaves no connection open', async (context) => {
    const sockets: Socket[] = [];
    const endpoint = await listener(context, (socket) => sockets.push(socket.resume()));
    const probes = new HealthProbes([endpoint], [], REGISTRY);
    await Promise.all([probes.listeners(), probes.transfers()]);
    assert.equal(sockets.length, 3);
    await until(() => sockets.every((socket) => socket.destroyed));
  });
});

describe('health probes', () => {
  test('are shared by concurrent callers, and run again later', async (context) => {
    let connections = 0;
    const endpoint = await listener(context, (socket) => {
      connections += 1;
      socket.end();
    });
    const probes = new HealthProbes([endpoint], [], REGISTRY);
    const first = probes.listeners();
    const transfers = probes.transfers();
    assert.equal(probes.listeners(), first);
    assert.equal(probes.transfers(), transfers);
    assert.notDeepEqual(await first, await transfers);
    assert.equal(connections, 3);
    // Every call may start new probes; the last call waits for their result.
    await until(() => probes.listeners() !== first);
    await probes.listeners();
    assert.equal(connections, 4);
  });

  test('are idle when the last one has finished', async (context) => {
    let asked = 0;
    const endpoint = await listener(context, (socket) => {
      asked += 1;
      socket.end();
    });
    const probes = new HealthProbes([endpoint], [], REGISTRY);
    await probes.idle();
    const done: string[] = [];
    const both = [
      probes.listeners().then(() => done.push('listeners')),
      probes.transfers().then(() => done.push('transfers')),
    ];
    await probes.idle();
    await Promise.resolve();
    assert.deepEqual(done.toSorted(), ['listeners', 'transfers']);
    assert.equal(asked, 3);
    await Promise.all(both);
  });

  test('have their own tokens, which are unregistered after a minute', async (context) => {
    const tokens: string[] = [];
    const unregistered: string[] = [];
    const endpoint = await unreachable(context);
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const probes = new HealthProbes([endpoint, endpoint], [], {
      registerProbe: (token) => tokens.push(token),
      unregisterProbe: (token) => unregistered.push(token),
    });
    await probes.listeners();
    await probes.transfers();
    assert.equal(new Set(tokens).size, 4);
    for (const token of tokens) assert.match(token, /^[\da-f]{64}$/u);
    context.mock.timers.tick(59_999);
    assert.deepEqual(unregistered, []);
    context.mock.timers.tick(1);
    assert.deepEqual(unregistered, tokens);
  });
});
