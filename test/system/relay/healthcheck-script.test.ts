import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createServer } from 'node:http';
import type { RequestListener } from 'node:http';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { PROBE_TIMEOUT_MS } from '../../../src/status/health-probes.ts';
import { listening } from '../../support/listening.ts';
import { patience } from '../../support/patience.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');

const SCRIPT = join(ROOT, 'deploy', 'image', 'healthcheck.sh');

type Result = readonly [code: unknown, stdout: string, stderr: string];

/** Runs the script as in the image, from the directory of the sources. */
function run(words: readonly string[], env: Readonly<Record<string, string>>): Promise<Result> {
  const options = { env: { PATH: process.env['PATH'], ...env }, cwd: ROOT, encoding: 'utf8' } as const;
  return new Promise((resolve) => {
    execFile(SCRIPT, [...words], options, (error, stdout, stderr) =>
      resolve([error === null ? 0 : error.code, stdout, stderr]),
    );
  });
}

const serve = (context: TestContext, answer: RequestListener): Promise<number> =>
  listening(context, createServer(answer));

const statusAt = (port: number): Readonly<Record<string, string>> => ({
  RELAY_STATUS_LISTEN: `tcp:${port}:interface=127.0.0.1`,
});

describe('the health check script of the image', () => {
  test('checks a relay, in all forms of its endpoint', async (context) => {
    const socket = join(await scratch(context), 'status.sock');
    await using tcp = await RelayProcess.start(patience(PROBE_TIMEOUT_MS));
    await using unix = await RelayProcess.start({
      ...patience(PROBE_TIMEOUT_MS),
      RELAY_STATUS_LISTEN: `unix:${socket}`,
    });
    const port = tcp.port('status');
    for (const endpoint of [
      `${port}`,
      `tcp:${port}`,
      `tcp:${port}:interface=0.0.0.0`,
      `tcp:interface=127.0.0.1:port=${port}`,
      `unix:${socket}`,
    ]) {
      assert.deepEqual(
        await run(['relay'], { RELAY_STATUS_LISTEN: endpoint }),
        [0, 'relay: ok\n', ''],
        endpoint,
      );
    }
    await Promise.all([tcp.stop(), unix.stop()]);
  });

  test('ends later if the container has been running for more than half a minute', async (context) => {
    const port = await serve(context, (_request, response) => response.end('{"ok":true,"problem":null}'));
    // Process 1 of this machine is older than half a minute.
    const started = performance.now();
    assert.deepEqual(await run(['relay', '1'], statusAt(port)), [0, 'relay: ok\n', '']);
    assert.ok(performance.now() - started >= 1000);
    assert.deepEqual(await run(['relay', '0'], statusAt(port)), [0, 'relay: ok\n', '']);
  });

  test('checks the sidecar at its default port unless another one is set', async (context) => {
    const asked: unknown[] = [];
    const port = await serve(context, (request, response) => {
      asked.push(request.url);
      response.end('{"ok":true,"problem":null}');
    });
    assert.deepEqual(await run(['sidecar'], { SIDECAR_LISTEN: `tcp:${port}` }), [0, 'sidecar: ok\n', '']);
    assert.deepEqual(asked, ['/healthz']);
  });

  test('leaves other checks, files and disabled endpoints to healthcheck.ts', async (context) => {
    const directory = await scratch(context);
    const none = { RELAY_STATUS_LISTEN: '' };
    assert.match((await run(['relay'], none))[1], /^relay: RELAY_STATUS_LISTEN is off/u);
    assert.match((await run(['transfer'], none))[1], /^transfer: RELAY_STATUS_LISTEN is off/u);
    assert.match((await run(['relay'], { RELAY_STATUS_LISTEN: 'tcp:0' }))[1], /uses port 0/u);
    assert.match(
      (await run(['relay'], { RELAY_STATUS_LISTEN_FILE: join(directory, 'none') }))[1],
      /^relay: .*RELAY_STATUS_LISTEN_FILE/u,
    );
    assert.match((await run(['relays'], {}))[1], /^unknown check "relays"/u);
  });

  test('reports a problem in one line', async (context) => {
    const bodies: readonly (readonly [body: string, line: string])[] = [
      ['{"ok":false,"problem":"raw tcp:1: refused","listeners":[{"ok":true}]}', 'raw tcp:1: refused'],
      ['{"listeners":[{"ok":true}]}', 'unexpected response at RELAY_STATUS_LISTEN'],
      ['{"ok":"true"}', 'unexpected response at RELAY_STATUS_LISTEN'],
      ['x'.repeat(1_000_000), 'unexpected response at RELAY_STATUS_LISTEN'],
      ['', 'unexpected response at RELAY_STATUS_LISTEN'],
    ];
    let body = '';
    const port = await serve(context, (_request, response) => response.end(body));
    for (const [text, line] of bodies) {
      body = text;
      assert.deepEqual(await run(['relay', '8'], statusAt(port)), [1, `relay: ${line}\n`, '']);
    }
    const silent = await serve(context, (_request, response) => response.write('{"ok":true,'));
    assert.deepEqual(await run(['relay'], statusAt(silent)), [
      1,
      'relay: no response at RELAY_STATUS_LISTEN within 4 s\n',
      '',
    ]);
    const closed = createServer();
    const free = await listening(context, closed);
    await new Promise((resolve) => closed.close(resolve));
    assert.deepEqual(await run(['relay'], statusAt(free)), [
      1,
      'relay: nothing listens on RELAY_STATUS_LISTEN\n',
      '',
    ]);
  });
});
