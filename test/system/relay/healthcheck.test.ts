import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';
import type { RequestListener } from 'node:http';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { publishSnapshot, snapshotName } from '../../../src/sidecar/snapshots/snapshot-files.ts';
import { PROBE_TIMEOUT_MS } from '../../../src/status/health-probes.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { COMPILE_CACHE } from '../../support/compile-cache.ts';
import { listening } from '../../support/listening.ts';
import { patience } from '../../support/patience.ts';
import { RelayProcess, UsageReader } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { TestClient } from '../../support/test-client.ts';
import { createUsageFile } from '../../support/usage-files.ts';

const HEALTHCHECK = join(import.meta.dirname, '..', '..', '..', 'src', 'healthcheck.ts');

const HOUR_MS = 3_600_000;

/** Timeout of a check, in milliseconds. */
const CHECK_TIMEOUT_MS = 1500;

/** Tries to end in time, because a busy machine may start a check too late. */
const ATTEMPTS = 20;

/** Much longer than the timeout of the check, in milliseconds: it ends by its own timeout, unless the machine is busy. */
const ENDS_WITHIN_MS = 5000;

type Environment = Readonly<Record<string, string>>;

interface Ended {
  readonly code: unknown;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the check as a container engine does. */
function execute(words: readonly string[], env: Environment): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { env: { ...COMPILE_CACHE, ...env }, encoding: 'utf8' } as const;
    execFile(process.execPath, [HEALTHCHECK, ...words], options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : error.code, stdout, stderr }),
    );
  });
}

/** Runs a check that is not tested for its timeout. */
function run(word: string, env: Environment): Promise<Ended> {
  return execute([word], { ...patience(CHECK_TIMEOUT_MS), ...env });
}

function startRelay(settings: Environment): Promise<RelayProcess> {
  return RelayProcess.start({ ...patience(PROBE_TIMEOUT_MS), ...settings });
}

/** A transfer check also reports sender, receiver and duration. */
async function assertOk(word: string, env: Environment, more: RegExp = /^$/u): Promise<void> {
  const { code, stdout, stderr } = await run(word, env);
  assert.deepEqual([code, stderr], [0, ''], stdout);
  assert.ok(stdout.startsWith(`${word}: ok`) && stdout.endsWith('\n'), stdout);
  assert.match(stdout.slice(`${word}: ok`.length, -1), more);
}

const LATENCY = String.raw`(?:raw|websocket) \S+(?: to websocket \S+)? \d+(?:\.\d)? ms`;

/** Matches a line with that many latencies. */
function latencies(count: number): RegExp {
  return new RegExp(`^: ${Array.from({ length: count }, () => LATENCY).join(', ')}$`, 'u');
}

/** Expects that the check prints exactly one line and fails. */
function assertFails(ended: Ended, line: RegExp): void {
  assert.deepEqual([ended.code, ended.stderr], [1, '']);
  assert.match(ended.stdout, /^[^\n]+\n$/u);
  assert.match(ended.stdout.trimEnd(), line);
}

const statusAt = (port: number): Environment => ({
  RELAY_STATUS_LISTEN: `tcp:${port}:interface=127.0.0.1`,
});

const sidecarAt = (port: number): Environment => ({
  SIDECAR_LISTEN: `tcp:${port}:interface=127.0.0.1`,
  SIDECAR_USAGE_DB: '/u',
});

const serve = (context: TestContext, answer: RequestListener): Promise<number> =>
  listening(context, createServer(answer));

function recordsIn(path: string): string[] {
  using usage = new UsageReader(path);
  return usage.rows().map(({ result }) => result);
}

describe('the checks of a relay', () => {
  test('succeed for a healthy one, and leave no record', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    await using relay = await startRelay({
      RELAY_USAGE_DB: path,
      RELAY_WEBSOCKET_LISTEN: 'tcp:0:interface=127.0.0.1',
    });
    const port = relay.port('status');
    for (const listener of [`tcp:${port}:interface=127.0.0.1`, `tcp:${port}`, `${port}`]) {
      await assertOk('relay', { RELAY_STATUS_LISTEN: listener });
      await assertOk('transfer', { RELAY_STATUS_LISTEN: listener }, latencies(3));
    }
    await relay.stop();
    assert.deepEqual(recordsIn(path), []);
  });

  test('work with a Unix socket', async (context) => {
    const path = join(await scratch(context), 'status.sock');
    const env = { RELAY_STATUS_LISTEN: `unix:${path}` };
    await using relay = await startRelay(env);
    await assertOk('relay', env);
    await assertOk('transfer', env, latencies(1));
    await relay.stop();
    assertFails(await run('relay', env), /^relay: no response at RELAY_STATUS_LISTEN .*ENOENT/u);
  });

  test('fail in time when it hangs, and leave no record when it continues', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    await using relay = await startRelay({ RELAY_USAGE_DB: path });
    const env = statusAt(relay.port('status'));
    for (const word of ['relay', 'transfer']) {
      process.kill(relay.pid, 'SIGSTOP');
      try {
        let tookMs = Infinity;
        for (let attempt = 1; tookMs >= ENDS_WITHIN_MS && attempt <= ATTEMPTS; attempt += 1) {
          const started = performance.now();
          const ended = await execute([word], env);
          tookMs = performance.now() - started;
          assertFails(
            ended,
            new RegExp(`^${word}: no response at RELAY_STATUS_LISTEN \\(timed out after `, 'u'),
          );
        }
        assert.ok(tookMs < ENDS_WITHIN_MS);
      } finally {
        process.kill(relay.pid, 'SIGCONT');
      }
      await assertOk(word, env, word === 'transfer' ? latencies(1) : undefined);
    }
    await relay.stop();
    assert.deepEqual(recordsIn(path), []);
  });

  test('report that it is stopping', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    await using relay = await startRelay({ RELAY_USAGE_DB: path, RELAY_DRAIN_TIMEOUT: '1h' });
    const addresses = { tcpPort: relay.port('raw'), unixPath: '', websocketPort: 0 };
    const [a, b] = [await TestClient.connect('tcp', addresses), await TestClient.connect('tcp', addresses)];
    const token = newToken();
    await a.send(handshake(token, SIDE_A));
    await b.send(handshake(token, SIDE_B));
    await a.until(3);
    const env = statusAt(relay.port('status'));
    await assertOk('relay', env);
    process.kill(relay.pid, 'SIGTERM');
    let ended = await run('relay', env);
    while (ended.code === 0) ended = await run('relay', env);
    assertFails(ended, /^relay: the relay is stopping$/u);
    assertFails(await run('transfer', env), /^transfer: the relay is stopping$/u);
    a.end();
    await b.closed;
    await relay.stop();
    assert.deepEqual(recordsIn(path), ['happy']);
  });
});

describe('a check', () => {
  test('fails if the port is closed', async (context) => {
    const server = createServer();
    const port = await listening(context, server);
    server.close();
    await once(server, 'close');
    for (const word of ['relay', 'transfer']) {
      assertFails(await run(word, statusAt(port)), /: no response at RELAY_STATUS_LISTEN .*ECONNREFUSED/u);
    }
    assertFails(
      await run('sidecar', sidecarAt(port)),
      /^sidecar: no response at SIDECAR_LISTEN .*ECONNREFUSED/u,
    );
  });

  test('fails if there is no endpoint to check', async () => {
    for (const word of ['relay', 'transfer']) {
      assertFails(await run(word, { RELAY_STATUS_LISTEN: '' }), /: RELAY_STATUS_LISTEN is off/u);
      assertFails(await run(word, { RELAY_STATUS_LISTEN: 'tcp:0' }), /: RELAY_STATUS_LISTEN uses port 0/u);
    }
    assertFails(await run('sidecar', sidecarAt(0)), /^sidecar: SIDECAR_LISTEN uses port 0/u);
  });

  test('reports all configuration errors in one line', async () => {
    const relay = { RELAY_LISTEN: 'x\ny', RELAY_LOG_LEVEL: 'loud' };
    for (const word of ['relay', 'transfer'])
      assertFails(
        await run(word, relay),
        /RELAY_LISTEN=.*can't be used.*RELAY_LOG_LEVEL="loud" can't be used/u,
      );
    const sidecar = { SIDECAR_TOKEN: 'hunter2 hunter2', SIDECAR_SNAPSHOT_KEEP: 'all' };
    for (const word of ['sidecar', 'snapshot']) {
      const ended = await run(word, sidecar);
      assertFails(
        ended,
        /SIDECAR_TOKEN="\(secret\)".*SIDECAR_USAGE_DB=""|SIDECAR_USAGE_DB="".*SIDECAR_TOKEN/u,
      );
      assert.doesNotMatch(ended.stdout, /hunter2/u);
    }
  });

  test('is rejected if its name is not one of four', async () => {
    for (const words of [[], [''], ['relays'], ['RELAY'], ['constructor'], ['two\nlines'], ['--help']]) {
      assertFails(
        await execute(words, {}),
        /^unknown check ".*"; use one of relay, transfer, sidecar, snapshot$/u,
      );
    }
  });

  test('handles all responses: a report, another format, incomplete, or endless', async (context) => {
    const reports: readonly (readonly [body: string, line: RegExp])[] = [
      ['{"ok":false,"problem":"two\\nlines"}', /^relay: two lines$/u],
      ['{"ok":false,"problem":null}', /^relay: reported unhealthy without a reason$/u],
      ['{"ok":"yes"}', /^relay: reported unhealthy without a reason$/u],
      ['{}', /^relay: unexpected response at RELAY_STATUS_LISTEN$/u],
      ['not found\n', /^relay: unexpected response at RELAY_STATUS_LISTEN$/u],
      ['', /^relay: unexpected response at RELAY_STATUS_LISTEN$/u],
    ];
    let body = '';
    const port = await serve(context, (_request, response) => response.end(body));
    for (const [text, line] of reports) {
      body = text;
      assertFails(await run('relay', statusAt(port)), line);
    }
    const broken = await serve(context, (_request, response) => {
      response.write('{"ok":');
      response.socket?.resetAndDestroy();
    });
    assertFails(await run('relay', statusAt(broken)), /^relay: no response at RELAY_STATUS_LISTEN \(/u);
    const endless = await serve(context, (_request, response) => {
      const more = (): void => {
        while (!response.destroyed && response.write('x'.repeat(100_000)));
      };
      response.on('drain', more);
      more();
    });
    assertFails(await run('relay', statusAt(endless)), /^relay: no response at .* \(response too long\)$/u);
    const silent = await serve(context, (_request, response) => response.write('{"ok":'));
    assertFails(
      await execute(['relay'], statusAt(silent)),
      /^relay: no response at .* \(timed out after 1500 ms\)$/u,
    );
  });

  test('of the sidecar requests /healthz, which needs no token', async (context) => {
    const asked: string[] = [];
    let report = { ok: true, problem: '' };
    const port = await serve(context, (request, response) => {
      asked.push(`${request.method} ${request.url} ${request.headers.authorization}`);
      response.writeHead(report.ok ? 200 : 503).end(JSON.stringify(report));
    });
    const env = { ...sidecarAt(port), SIDECAR_TOKEN: 'hunter2hunter2hunter2' };
    await assertOk('sidecar', env);
    report = { ok: false, problem: 'the database is gone' };
    assertFails(await run('sidecar', env), /^sidecar: the database is gone$/u);
    assert.deepEqual(new Set(asked), new Set(['GET /healthz undefined']));
  });
});

describe('the check of the newest snapshot', () => {
  /** A directory with a snapshot of that time. */
  async function withSnapshot(
    context: TestContext,
    time: number,
  ): Promise<{ env: Environment; path: string }> {
    const directory = join(await scratch(context), 'snapshots');
    mkdirSync(directory);
    const finished = join(directory, '.unfinished-x.sqlite');
    createUsageFile(finished, { journalMode: 'delete' });
    const name = snapshotName(time);
    const { size: bytes } = statSync(finished);
    const snapshot = { name, time: new Date(time).toISOString(), bytes, sha256: '0'.repeat(64), rows: 3 };
    await publishSnapshot(directory, finished, snapshot);
    const env = { SIDECAR_USAGE_DB: '/u', SIDECAR_SNAPSHOT_DIR: directory, SIDECAR_SNAPSHOT_EVERY: '1h' };
    return { env, path: join(directory, name) };
  }

  test('succeeds for an intact one, up to twice the interval', async (context) => {
    const { env } = await withSnapshot(context, Date.now() - 1.5 * HOUR_MS);
    await assertOk('snapshot', env);
    assertFails(
      await run('snapshot', { ...env, SIDECAR_SNAPSHOT_EVERY: '30m' }),
      /^snapshot: .* 1\.5 h old/u,
    );
  });

  test('fails if it is too old, damaged or missing', async (context) => {
    const { env, path } = await withSnapshot(context, Date.now() - 3 * HOUR_MS);
    assertFails(await run('snapshot', env), /^snapshot: .* is 3 h old; it should be at most 2 h$/u);
    const daily = { ...env, SIDECAR_SNAPSHOT_EVERY: '1d' };
    const file = openSync(path, 'r+');
    writeSync(file, Buffer.alloc(16, 0xff), 0, 16, 0);
    closeSync(file);
    assertFails(await run('snapshot', daily), /^snapshot: .* is damaged: /u);
    rmSync(path);
    assertFails(await run('snapshot', daily), /^snapshot: there is no snapshot in /u);
    rmSync(join(path, '..'), { recursive: true });
    assertFails(await run('snapshot', daily), /^snapshot: can't read snapshots in .*ENOENT/u);
  });
});
