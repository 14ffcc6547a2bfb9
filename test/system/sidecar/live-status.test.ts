import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:http';
import type { RequestListener, ServerResponse } from 'node:http';
import { createServer as createRawServer } from 'node:net';
import type { Server } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import Database from 'better-sqlite3';
import { VERSION } from '../../../src/process/version.ts';
import type { LiveStatus } from '../../../src/sidecar/api.ts';
import { RelayClient } from '../../../src/sidecar/relay-client.ts';
import type { RelayStatus } from '../../../src/status/relay-status.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { ask, jsonOf, problemOf } from '../../support/ask.ts';
import { freePort } from '../../support/listening.ts';
import { CONDITION_TIMEOUT_MS } from '../../support/programs.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch, until } from '../../support/scratch.ts';
import { UNREACHABLE_URL, startSidecar, sampleRecords } from '../../support/sidecar-fixture.ts';
import { TestClient } from '../../support/test-client.ts';
import { UNLIMITED_STATUS } from '../../support/metrics.ts';
import { addUsage } from '../../support/usage-files.ts';
import { createUsageDatabase } from '../../support/usage-records.ts';

const HOUR_MS = 3_600_000;

const POLL_MS = 50;

const STATUS_KEYS = [
  'bytes_per_second',
  'certificates',
  'connections',
  'draining',
  'host',
  'limits',
  'pairs',
  'quota',
  'refused',
  'refused_last_hour',
  'refusing',
  'relayed_bytes',
  'started',
  'state',
  'uptime_seconds',
  'usage',
  'version',
  'waiting',
  'warnings',
];

function isLive(value: unknown): value is LiveStatus {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.keys(value).join() === 'now,relay,database,snapshots,sidecar,warnings'
  );
}

async function liveOf(url: string): Promise<LiveStatus> {
  const answer = await ask(url, '/live.json');
  assert.equal(answer.status, 200);
  const live = jsonOf(answer);
  assert.ok(isLive(live), answer.body.toString());
  return live;
}

/** Polls until `holds`: the status may be half a second old. */
async function untilLive(url: string, holds: (live: LiveStatus) => boolean): Promise<LiveStatus> {
  const deadline = performance.now() + CONDITION_TIMEOUT_MS;
  for (;;) {
    const live = await liveOf(url);
    if (holds(live)) return live;
    assert.ok(performance.now() < deadline, `not in time: ${holds.toString()} ${JSON.stringify(live)}`);
    await sleep(POLL_MS);
  }
}

/** The problems of both checks through the sidecar; null if there are none. */
async function checksOf(url: string): Promise<(string | null)[]> {
  const answers = [await ask(url, '/health/relay'), await ask(url, '/health/transfer')];
  return answers.map((answer) => {
    const health = jsonOf(answer);
    assert.ok(typeof health === 'object' && health !== null && 'ok' in health && 'problem' in health);
    assert.equal(answer.status, health.ok === true ? 200 : 503);
    assert.equal(health.problem === null, health.ok);
    return health.ok === true
      ? null
      : problemOf(
          answer,
          Object.keys(health).filter((key) => key !== 'problem'),
        );
  });
}

/** Polls until the checks have these problems: a relay on a busy machine may be late. */
async function untilChecks(url: string, problems: readonly (string | null)[]): Promise<void> {
  await until(async () => isDeepStrictEqual(await checksOf(url), problems));
}

async function startRelay(context: TestContext, databasePath: string, port = 0): Promise<RelayProcess> {
  const relay = await RelayProcess.start({
    RELAY_USAGE_DB: databasePath,
    RELAY_STATUS_LISTEN: `tcp:${port}:interface=127.0.0.1`,
  });
  context.after(() => relay[Symbol.asyncDispose]());
  return relay;
}

describe('live.json', () => {
  test('has the status of a running relay', async (context) => {
    const directory = await scratch(context);
    const databasePath = join(directory, 'usage.sqlite');
    const relay = await startRelay(context, databasePath);
    const { url } = await startSidecar(context, null, {
      SIDECAR_USAGE_DB: databasePath,
      SIDECAR_RELAY_STATUS: `http://127.0.0.1:${relay.port('status')}/`,
    });
    const addresses = { tcpPort: relay.port('raw'), unixPath: '', websocketPort: 0 };
    const clients = await Promise.all([1, 2, 3].map(() => TestClient.connect('tcp', addresses)));
    context.after(() => clients.forEach((client) => client.destroy()));
    const [one, other, waiting] = clients;
    const token = newToken();
    await one?.send(handshake(token, SIDE_A));
    await other?.send(handshake(token, SIDE_B));
    await waiting?.send(handshake(newToken(), SIDE_A));
    await one?.until(3);
    await one?.send(Buffer.alloc(20_000));
    await other?.until(20_003);

    const live = await untilLive(url, ({ relay: state }) => state.state !== 'down' && state.waiting === 1);
    assert.ok(live.relay.state !== 'down');
    assert.deepEqual(Object.keys(live.relay).toSorted(), STATUS_KEYS);
    assert.deepEqual([live.relay.pairs, live.relay.draining], [1, false]);
    await untilLive(url, ({ relay: state }) => state.state !== 'down' && state.relayed_bytes >= 20_000);
    await untilChecks(url, [null, null]);
    clients.forEach((client) => client.destroy());
    await untilLive(url, ({ relay: state }) => state.state !== 'down' && state.pairs + state.waiting === 0);
  });

  test('reports a relay that stops, hangs, is replaced by another service, and returns', async (context) => {
    const databasePath = join(await scratch(context), 'usage.sqlite');
    const port = await freePort();
    const first = await startRelay(context, databasePath, port);
    const address = `http://127.0.0.1:${port}`;
    const { url, sidecar } = await startSidecar(context, null, {
      SIDECAR_USAGE_DB: databasePath,
      SIDECAR_RELAY_STATUS: address,
    });
    const isUp = ({ relay }: LiveStatus): boolean => relay.state !== 'down';
    const isDownAs =
      (problem: string) =>
      ({ relay }: LiveStatus): boolean =>
        relay.state === 'down' && relay.problem === problem;
    await untilLive(url, isUp);

    process.kill(first.pid, 'SIGSTOP');
    const timeout = `the relay's status port does not answer at ${address} (timeout)`;
    await untilLive(url, isDownAs(timeout));
    assert.deepEqual(await checksOf(url), [timeout, timeout]);
    process.kill(first.pid, 'SIGCONT');
    await untilLive(url, isUp);
    await untilChecks(url, [null, null]);

    await first.stop();
    const refused = `the relay's status port does not answer at ${address} (ECONNREFUSED)`;
    await untilLive(url, isDownAs(refused));
    assert.deepEqual(await checksOf(url), [refused, refused]);

    const otherService = createServer((_request, response) => response.end('{"ok":"yes"}')).listen(
      port,
      '127.0.0.1',
    );
    await once(otherService, 'listening');
    const incompatible = `the service at ${address} is not a compatible transit relay`;
    await untilLive(url, isDownAs(incompatible));
    assert.deepEqual(await checksOf(url), [incompatible, incompatible]);
    otherService.close();
    otherService.closeAllConnections();
    await once(otherService, 'close');

    await startRelay(context, databasePath, port);
    await untilLive(url, isUp);
    await untilChecks(url, [null, null]);
    assert.equal(sidecar.stderr, '');
  });

  test('has the state of the database and its snapshots', async (context) => {
    const { url, databasePath, snapshots } = await startSidecar(context, sampleRecords(100));
    const writer = new Database(databasePath);
    context.after(() => writer.close());
    writer.pragma('journal_mode = WAL');
    addUsage(writer, 10);
    const { database, snapshots: taken, relay: state, now } = await liveOf(url);
    const [main, log] = [statSync(databasePath), statSync(`${databasePath}-wal`)];
    assert.ok(log.size > 0);
    const modified = new Date(Math.max(main.mtimeMs, log.mtimeMs)).toISOString();
    assert.deepEqual(database, { state: 'ok', bytes: main.size + log.size, modified });
    assert.ok(Math.abs(Date.now() - Date.parse(now)) < 60_000);
    assert.deepEqual(state, {
      state: 'down',
      problem: `the relay's status port does not answer at ${UNREACHABLE_URL} (ECONNREFUSED)`,
    });
    const { newest } = taken;
    assert.ok(newest !== null);
    const next = new Date(Date.parse(newest.time) + HOUR_MS).toISOString();
    assert.deepEqual(taken, { count: 1, newest, problem: null, next });
    assert.equal(newest.bytes, statSync(join(snapshots, newest.name)).size);
    assert.equal(newest.rows, 100);
  });

  test('reports a database that is missing or not a file', async (context) => {
    const { url, databasePath } = await startSidecar(context, null);
    const missing = await untilLive(url, ({ snapshots }) => snapshots.problem !== null);
    const { problem, next } = missing.snapshots;
    assert.match(problem ?? '', /^there is no usage database ".+" yet: start the relay/u);
    assert.deepEqual(missing.snapshots, { count: 0, newest: null, problem, next });
    assert.deepEqual(missing.database, {
      state: 'missing',
      problem: `there is no usage database at "${databasePath}" yet`,
    });
    mkdirSync(databasePath);
    assert.deepEqual((await liveOf(url)).database, {
      state: 'unreadable',
      problem: `the usage database "${databasePath}" is not a file`,
    });
    rmSync(databasePath, { recursive: true });
    symlinkSync(databasePath, databasePath);
    assert.deepEqual((await liveOf(url)).database, {
      state: 'unreadable',
      problem: `the usage database "${databasePath}" can't be accessed (ELOOP)`,
    });
  });
});

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

/** Sends blanks until the connection is closed. */
function sendEndlessly(response: ServerResponse): void {
  const blanks = Buffer.alloc(65_536, ' ');
  const send = (): void => {
    while (!response.destroyed && response.write(blanks));
  };
  response.on('drain', send);
  send();
}

/** The problem in status and health, which must be the same. */
async function problemAt(url: string): Promise<string> {
  const client = new RelayClient(url);
  const [state, health] = [await client.state(), await client.health('transfer')];
  assert.ok(state.state === 'down' && !health.ok);
  assert.deepEqual(state, { state: 'down', problem: health.problem });
  return state.problem;
}

describe('the warnings of the sidecar', () => {
  const warningsOf = async (url: string): Promise<LiveStatus['warnings']> => (await liveOf(url)).warnings;

  test('have those of its configuration', async (context) => {
    const settings = { SIDECAR_TOKNE: 'x', SIDECAR_LISTEN: 'tcp:0:interface=0.0.0.0' };
    const { url } = await startSidecar(context, sampleRecords(1), settings);
    assert.deepEqual(
      (await warningsOf(url)).map(({ event }) => event),
      ['unknown_variable', 'insecure_setting'],
    );
    assert.match((await warningsOf(url))[0]?.message ?? '', /^SIDECAR_TOKNE is unknown/u);
  });

  test('say why snapshots fail, until one succeeds', async (context) => {
    const { url, volume } = await startSidecar(context, null);
    const failing = await untilLive(url, ({ snapshots }) => snapshots.problem !== null);
    const message = failing.snapshots.problem;
    assert.deepEqual(failing.warnings, [{ event: 'snapshot_failed', message }]);
    createUsageDatabase(volume, sampleRecords(1));
    await untilLive(url, ({ snapshots }) => snapshots.problem === null);
    assert.deepEqual(await warningsOf(url), []);
  });
});

describe('the identity of the sidecar', () => {
  test('is its version, host and start', async (context) => {
    const before = new Date().toISOString();
    const { url } = await startSidecar(context, null);
    const { version, host, started } = (await liveOf(url)).sidecar;
    assert.deepEqual([version, host], [VERSION, hostname()]);
    assert.ok(before <= started && started <= new Date().toISOString());
  });
});

/** The status of a relay before version 1.0.0. */
const OLD_STATUS = {
  started: STATUS.started,
  uptime_seconds: 86_400,
  draining: false,
  connections: 5,
  pairs: 2,
  waiting: 1,
  relayed_bytes: 1000,
  bytes_per_second: 10,
  refused: { ...STATUS.refused, waiting: 3 },
  quota: null,
};

const UNKNOWN = {
  version: '',
  host: '',
  state: 'serving',
  refusing: null,
  limits: { connections: null, waiting: null },
  refused_last_hour: STATUS.refused_last_hour,
  certificates: [],
  warnings: [],
  usage: { queued: 0, dropped: 0, problem: null },
};

describe('the status of a relay of an older version', () => {
  const quota = { used_bytes: 5, limit_bytes: 10, resets: '2026-12-01T00:00:00.000Z' };
  const cases: readonly (readonly [what: string, answer: object, state: string])[] = [
    ['serves', OLD_STATUS, 'serving'],
    ['drains', { ...OLD_STATUS, draining: true }, 'draining'],
    ['has used half of its quota', { ...OLD_STATUS, quota }, 'serving'],
    ['has used up its quota', { ...OLD_STATUS, quota: { ...quota, used_bytes: 10 } }, 'over_quota'],
  ];
  for (const [what, answer, state] of cases) {
    test(`that ${what} has defaults for what is missing`, async (context) => {
      const client = new RelayClient(await serve(context, answering(200, answer)));
      assert.deepEqual(await client.state(), { ...UNKNOWN, ...answer, state, quota: null });
    });
  }

  test('has only the fields that all versions have', async (context) => {
    const { connections: _connections, refused: _refused, quota: _quota, ...oldest } = OLD_STATUS;
    const client = new RelayClient(await serve(context, answering(200, oldest)));
    assert.deepEqual(await client.state(), {
      ...UNKNOWN,
      ...oldest,
      connections: 5,
      refused: STATUS.refused,
      quota: null,
    });
  });

  test('has defaults for fields whose form is unknown here', async (context) => {
    for (const refused of [null, 'none', [], { connections: 1 }, { ...STATUS.refused, waiting: '1' }]) {
      const answer = { ...STATUS, state: 'down', refused, refused_last_hour: refused, quota: 'none' };
      const client = new RelayClient(await serve(context, answering(200, answer)));
      assert.deepEqual(await client.state(), STATUS);
    }
  });

  test('of a later version keeps fields that are unknown here', async (context) => {
    const answer = { ...STATUS, moon_phase: 'full' };
    const client = new RelayClient(await serve(context, answering(200, answer)));
    assert.deepEqual(await client.state(), answer);
  });
});

describe('the relay client', () => {
  test("returns the relay's status", async (context) => {
    const paths: unknown[] = [];
    const url = await serve(context, (request, response) => {
      paths.push(request.url);
      const health = { ok: true, problem: null, transfers: [{ ok: true }] };
      response.end(JSON.stringify(request.url === '/status.json' ? STATUS : health));
    });
    const client = new RelayClient(url);
    assert.deepEqual(await client.state(), STATUS);
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
    const otherServices: readonly (readonly [name: string, url: Promise<string>])[] = [
      ['a web page', serveBytes(context, 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>')],
      ['the clients’ own port', serveBytes(context, 'bad handshake\n')],
      ['a redirect', serveBytes(context, 'HTTP/1.1 302 Found\r\nLocation: /other\r\n\r\n')],
      ['a redirect with an answer', serve(context, answering(302, { ...STATUS, ok: true, problem: null }))],
      ['null', serve(context, answering(200, null))],
      ['an endless answer', serve(context, (_request, response) => sendEndlessly(response))],
      ['a list', serve(context, answering(200, [STATUS]))],
      ['a word', serve(context, answering(200, 'ok'))],
      ['another program', serve(context, answering(200, { state: 'up', started: 'now' }))],
      ['an incomplete status', serve(context, answering(200, { ...STATUS, waiting: undefined }))],
      [
        'a status with a value of the wrong type',
        serve(context, answering(200, { ...STATUS, pairs: '2', ok: 'yes', problem: null })),
      ],
    ];
    for (const [name, opening] of otherServices) {
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
    const closing = await serveBytes(context, '');
    assert.match(await problemAt(closing), /does not answer at .+ \(ECONNRESET\)$/u);
  });

  test('times out when the relay hangs', async (context) => {
    const silent = await serve(context, () => undefined);
    const incomplete = await serve(context, (_request, response) => response.write('{"ok":'));
    for (const url of [silent, incomplete]) {
      const problem = `the relay's status port does not answer at ${url} (timeout)`;
      assert.equal(await problemAt(url), problem);
    }
  });
});
