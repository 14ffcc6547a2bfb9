import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { BoundEndpoint } from '../../src/config/endpoint.ts';
import { HealthProbes } from '../../src/status/health-probes.ts';
import type { ProbeResult } from '../../src/status/health-probes.ts';
import { until } from '../support/scratch.ts';

/** What a whole test may take, in milliseconds. */
const DEADLINE_MS = 1200;

const REGISTER = { registerProbe: () => undefined, unregisterProbe: () => undefined };

/** Where `server` listens. It is gone with the test, and so are its connections. */
async function listen(context: TestContext, server: Server): Promise<BoundEndpoint> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return { kind: 'tcp', port: address.port, interface: address.address, backlog: null, tls: null };
}

/** A listener that does this with each connection. */
const listener = (context: TestContext, treat: (socket: Socket) => void): Promise<BoundEndpoint> =>
  listen(context, createServer(treat));

/** One that welcomes everybody, and answers everything else with `answer`. */
const welcoming = (context: TestContext, answer: (bytes: Buffer) => Uint8Array): Promise<BoundEndpoint> =>
  listener(context, (socket) => {
    socket.once('data', () => {
      socket.write('ok\n');
      socket.on('data', (bytes: Buffer) => socket.write(answer(bytes)));
    });
  });

async function nobody(context: TestContext): Promise<BoundEndpoint> {
  const server = createServer();
  const endpoint = await listen(context, server);
  server.close();
  await once(server, 'close');
  return endpoint;
}

/** What is wrong, each once: a machine that is busy has more deadlines to miss, and no other problems. */
function problemsOf(results: readonly ProbeResult[]): (string | null)[] {
  for (const { ok, problem, milliseconds } of results) {
    assert.equal(ok, problem === null);
    assert.ok(milliseconds > 0, `${milliseconds} ms`);
  }
  return [...new Set(results.map(({ problem }) => problem))];
}

describe('a self-test of a listener', { concurrency: true }, () => {
  const cases: readonly (readonly [
    name: string,
    open: (context: TestContext) => Promise<BoundEndpoint>,
    listeners: string,
    transfers: string,
  ])[] = [
    ['where nobody listens', nobody, 'no connection (ECONNREFUSED)', 'no connection (ECONNREFUSED)'],
    [
      'that closes at once',
      (context) => listener(context, (socket) => socket.end()),
      'the relay did not accept a client',
      'two clients were not paired',
    ],
    [
      'that says something else',
      (context) => listener(context, (socket) => socket.end('bad handshake\n')),
      'the relay did not accept a client',
      'two clients were not paired',
    ],
    [
      'that garbles what it relays',
      (context) => welcoming(context, (bytes) => bytes.map((byte) => byte ^ 1)),
      `timed out after ${DEADLINE_MS} ms`,
      'received bytes differ from sent bytes',
    ],
    [
      'that relays to the wrong client',
      (context) => welcoming(context, (bytes) => bytes),
      `timed out after ${DEADLINE_MS} ms`,
      'received bytes differ from sent bytes',
    ],
    [
      'that accepts and says nothing',
      (context) => listener(context, (socket) => socket.resume()),
      `timed out after ${DEADLINE_MS} ms`,
      `timed out after ${DEADLINE_MS} ms`,
    ],
  ];
  for (const [name, open, listeners, transfers] of cases) {
    test(`${name} says so`, async (context) => {
      const selfTest = new HealthProbes([await open(context)], [], REGISTER);
      assert.deepEqual(problemsOf(await selfTest.listeners()), [listeners]);
      assert.deepEqual(problemsOf(await selfTest.transfers()), [transfers]);
    });
  }

  test('for WebSocket that closes, is silent or speaks plain HTTP says so', async (context) => {
    const http = createHttpServer((_request, response) => response.writeHead(426).end());
    const endpoints = [
      await nobody(context),
      await listener(context, (socket) => socket.end()),
      await listener(context, (socket) => socket.resume()),
      await listen(context, http),
    ];
    const selfTest = new HealthProbes([], endpoints, REGISTER);
    for (const results of [await selfTest.listeners(), await selfTest.transfers()]) {
      assert.deepEqual(
        results.map(({ problem }) => problem),
        [
          'no connection (ECONNREFUSED)',
          'no connection (ECONNRESET)',
          `timed out after ${DEADLINE_MS} ms`,
          'no connection (Unexpected server response: 426)',
        ],
      );
    }
  });

  test('that does not answer is given up when the time is over, and not before', async (context) => {
    const endpoint = await listener(context, (socket) => socket.resume());
    const [result] = await new HealthProbes([endpoint], [], REGISTER).listeners();
    assert.ok(result !== undefined);
    assert.ok(result.milliseconds >= DEADLINE_MS - 1, `${result.milliseconds} ms`);
    // No measure of speed: it ends by its own deadline and not by somebody else's.
    assert.ok(result.milliseconds < 10 * DEADLINE_MS, `${result.milliseconds} ms`);
  });

  test('takes nothing from the others: each has its own verdict', async (context) => {
    const silent = await listener(context, (socket) => socket.resume());
    const dead = await nobody(context);
    const results = await new HealthProbes([silent, dead], [], REGISTER).listeners();
    assert.deepEqual(
      results.map(({ problem }) => problem),
      [`timed out after ${DEADLINE_MS} ms`, 'no connection (ECONNREFUSED)'],
    );
  });

  test('leaves no connection behind', async (context) => {
    const sockets: Socket[] = [];
    const endpoint = await listener(context, (socket) => sockets.push(socket.resume()));
    const selfTest = new HealthProbes([endpoint], [], REGISTER);
    await Promise.all([selfTest.listeners(), selfTest.transfers()]);
    assert.equal(sockets.length, 3);
    await until(() => sockets.every((socket) => socket.destroyed));
  });
});

describe('self-tests', () => {
  test('are shared by all who ask while one runs, and begin anew later', async (context) => {
    let connections = 0;
    const endpoint = await listener(context, (socket) => {
      connections += 1;
      socket.end();
    });
    const selfTest = new HealthProbes([endpoint], [], REGISTER);
    const first = selfTest.listeners();
    const transfers = selfTest.transfers();
    assert.equal(selfTest.listeners(), first);
    assert.equal(selfTest.transfers(), transfers);
    assert.notDeepEqual(await first, await transfers);
    assert.equal(connections, 3);
    // Each call is a question, and what it finds is asked for in the end.
    await until(() => selfTest.listeners() !== first);
    await selfTest.listeners();
    assert.equal(connections, 4);
  });

  test('are idle when the last one is done', async (context) => {
    let asked = 0;
    const endpoint = await listener(context, (socket) => {
      asked += 1;
      socket.end();
    });
    const selfTest = new HealthProbes([endpoint], [], REGISTER);
    await selfTest.idle();
    const done: string[] = [];
    const both = [
      selfTest.listeners().then(() => done.push('listeners')),
      selfTest.transfers().then(() => done.push('transfers')),
    ];
    await selfTest.idle();
    await Promise.resolve();
    assert.deepEqual(done.toSorted(), ['listeners', 'transfers']);
    assert.equal(asked, 3);
    await Promise.all(both);
  });

  test('have tokens of their own, which are forgotten after a minute', async (context) => {
    const tokens: string[] = [];
    const forgotten: string[] = [];
    const endpoint = await nobody(context);
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const selfTest = new HealthProbes([endpoint, endpoint], [], {
      registerProbe: (token) => tokens.push(token),
      unregisterProbe: (token) => forgotten.push(token),
    });
    await selfTest.listeners();
    await selfTest.transfers();
    assert.equal(new Set(tokens).size, 4);
    for (const token of tokens) assert.match(token, /^[\da-f]{64}$/u);
    context.mock.timers.tick(59_999);
    assert.deepEqual(forgotten, []);
    context.mock.timers.tick(1);
    assert.deepEqual(forgotten, tokens);
  });
});
