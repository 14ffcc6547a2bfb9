import assert from 'node:assert/strict';
import { once } from 'node:events';
import { stripTypeScriptTypes } from 'node:module';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { readAssets, readPage } from '../../../src/sidecar/dashboard-files.ts';
import { ask, jsonOf, problemOf } from '../../support/ask.ts';
import type { Answer } from '../../support/ask.ts';
import { startSidecar, sampleRecords } from '../../support/sidecar-fixture.ts';

const JSON_TYPE = 'application/json; charset=utf-8';
const SNAPSHOT_TYPE = 'application/vnd.sqlite3';

/** All paths with their response if there is a database and a snapshot, but no relay. */
const ROUTES: readonly (readonly [path: string, status: number, type: string])[] = [
  ['/', 200, 'text/html; charset=utf-8'],
  ['/assets/dashboard.ts', 200, 'text/javascript; charset=utf-8'],
  ['/assets/dashboard.css', 200, 'text/css; charset=utf-8'],
  ['/live.json', 200, JSON_TYPE],
  ['/live-history.json', 200, JSON_TYPE],
  ['/snapshots', 200, JSON_TYPE],
  ['/snapshots/latest.sqlite', 200, SNAPSHOT_TYPE],
  ['/usage.json', 200, JSON_TYPE],
  ['/usage.csv', 200, 'text/csv; charset=utf-8'],
  ['/healthz', 200, JSON_TYPE],
  ['/health/snapshot', 200, JSON_TYPE],
  ['/metrics', 200, 'text/plain; version=0.0.4; charset=utf-8'],
  ['/health/relay', 503, JSON_TYPE],
  ['/health/transfer', 503, JSON_TYPE],
];

/** Paths whose responses change over time. */
const CHANGING = /live(?:-history)?\.json|usage\.json|metrics/u;

const STRANGE_PATHS = [
  '/nothing',
  '/.',
  '/../../../../etc/passwd',
  '/%zz',
  '/assets/%zz',
  '/assets/..%2findex.html',
  '/assets/index.html',
  '/assets/..%2f..%2fmain.ts',
  '/assets/__proto__',
  '/assets/constructor',
  '/snapshots/%zz',
  '/snapshots/%00',
  '/snapshots/nothing.sqlite',
  '/snapshots/__proto__',
  '/snapshots/.scratch',
  '/snapshots/../volume/usage.sqlite',
  '/snapshots/..%2fvolume%2fusage.sqlite',
  '/snapshots/%2e%2e%2fvolume%2fusage.sqlite',
  '/snapshots/..%5cvolume%5cusage.sqlite',
  '/snapshots/%2fetc%2fpasswd',
  '/snapshots/latest.sqlite/more',
  '/health/nothing',
  '/health/toString',
  `/${'x'.repeat(10_000)}`,
];

function assertSafe({ headers }: Answer, what: string): void {
  const policy = headers['content-security-policy'] ?? '';
  assert.match(String(policy), /^default-src 'none'; script-src 'self';/u, what);
  assert.match(String(policy), /frame-ancestors 'none'$/u, what);
  assert.doesNotMatch(String(policy), /unsafe|\*/u, what);
  assert.equal(headers['x-content-type-options'], 'nosniff', what);
  assert.equal(headers['x-frame-options'], 'DENY', what);
  assert.equal(headers['referrer-policy'], 'no-referrer', what);
  assert.equal(headers['cross-origin-resource-policy'], 'same-origin', what);
  assert.equal(headers['cache-control'], 'no-cache', what);
  assert.equal(headers['x-powered-by'], undefined, what);
  assert.equal(headers['access-control-allow-origin'], undefined, what);
}

/** Headers that must be equal for HEAD and GET. */
function commonOf({ status, headers }: Answer, path: string): unknown[] {
  const isChanging = CHANGING.test(path);
  return [status, headers['content-type'], isChanging ? null : (headers.etag ?? null)];
}

describe('the server of the sidecar', () => {
  test('sends strict headers with all responses', async (context) => {
    const { url, sidecar } = await startSidecar(context, sampleRecords(10));

    for (const [path, status, type] of ROUTES) {
      await context.test(`GET and HEAD ${path}`, async () => {
        const answer = await ask(url, path);
        assert.deepEqual([answer.status, answer.headers['content-type']], [status, type]);
        assert.ok(answer.body.length > 0);
        assertSafe(answer, path);
        const head = await ask(url, path, { method: 'HEAD' });
        assert.deepEqual(commonOf(head, path), commonOf(answer, path));
        assert.equal(head.body.length, 0);
        assertSafe(head, `HEAD ${path}`);
      });

      for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'PROPFIND']) {
        if (method === 'POST' && path === '/snapshots') continue;
        await context.test(`${method} ${path} is not found`, async () => {
          const answer = await ask(url, path, { method });
          assert.equal(answer.status, 404);
          assert.notEqual(problemOf(answer), '');
          assertSafe(answer, `${method} ${path}`);
        });
      }
    }

    for (const path of STRANGE_PATHS) {
      await context.test(`GET ${path.slice(0, 60)} is an error`, async () => {
        const answer = await ask(url, path);
        assert.ok([400, 404].includes(answer.status), `status ${answer.status}`);
        assert.equal(answer.headers['content-type'], JSON_TYPE);
        assert.notEqual(problemOf(answer), '');
        assertSafe(answer, path);
      });
    }

    await context.test('rejects a request that is not HTTP, and keeps running', async () => {
      const { hostname, port } = new URL(url);
      const socket = connect({ host: hostname, port: Number(port) });
      let reply = '';
      socket.setEncoding('latin1').on('data', (text: string) => {
        reply += text;
      });
      socket.write('please relay 00 for side 00\n\r\n\r\n');
      await once(socket, 'close');
      assert.match(reply, /^HTTP\/1\.1 400 /u);
      assert.equal((await ask(url, '/healthz')).status, 200);
    });

    await context.test('logs no error for any of these requests', async () => {
      await sidecar.stop();
      assert.doesNotMatch(sidecar.log, /"level":"(?:warn|error|fatal)"/u);
      assert.equal(sidecar.stderr, '');
    });
  });

  test('does not resend an unchanged page', async (context) => {
    const { url } = await startSidecar(context, null);
    for (const path of ['/', '/assets/uplot.js']) {
      const { headers, body } = await ask(url, path);
      const again = await ask(url, path, { headers: { 'if-none-match': headers.etag } });
      assert.deepEqual([again.status, again.body.length], [304, 0]);
      assertSafe(again, path);
      const small = await ask(url, path, { headers: { 'accept-encoding': 'gzip' } });
      assert.equal(small.headers['content-encoding'], 'gzip');
      assert.ok(small.body.length < body.length / 2);
    }
  });

  test('is healthy even if the relay, the database and the snapshots are missing', async (context) => {
    const { url } = await startSidecar(context, null);
    assert.deepEqual(jsonOf(await ask(url, '/healthz')), { ok: true, problem: null });
    for (const check of ['relay', 'transfer']) {
      const answer = await ask(url, `/health/${check}`);
      assert.equal(answer.status, 503);
      assert.match(problemOf(answer, ['ok']), /^the relay's status port does not answer at http:/u);
    }
    const answer = await ask(url, '/health/snapshot');
    assert.equal(answer.status, 503);
    assert.match(problemOf(answer, ['ok']), /^there is no snapshot in ".+" yet$/u);
  });
});

const SCRIPT = 'text/javascript; charset=utf-8';
const STYLE = 'text/css; charset=utf-8';

/** The files that a browser loads for this file: URLs in HTML, imports of scripts and style sheets. */
function wantedBy(text: string): string[] {
  const mentions =
    /(?:src|href)="([^"]+)"|\bfrom\s*'([^']+)'|\bimport\s*\(?\s*'([^']+)'|@import\s+(?:url\()?['"]([^'"]+)/gu;
  return [...text.matchAll(mentions)].map((match) => match.slice(1).find((one) => one !== undefined) ?? '');
}

describe('the assets of the page', () => {
  const assets = readAssets();

  test('include everything that it loads, without other hosts', () => {
    const wanted = wantedBy(readPage()).filter((address) => address.startsWith('assets/'));
    assert.ok(wanted.length >= 2);
    const names = new Set<string>();
    const queue = wanted.map((address) => address.slice('assets/'.length));
    for (const name of queue) {
      if (names.has(name)) continue;
      names.add(name);
      const asset = assets.get(name);
      assert.ok(asset !== undefined, `no ${name}`);
      for (const address of wantedBy(asset)) {
        // A relative import. Type imports are removed.
        assert.match(address, /^\.\/[\w.-]+$/u, `${name} wants ${address}`);
        queue.push(address.slice(2));
      }
    }
    assert.ok(names.has('uplot.js') && names.has('uplot.css'));
    const unused = [...assets.keys()].filter((name) => !names.has(name));
    assert.deepEqual(unused, [], 'every asset is loaded');
  });

  test('have no types in scripts', () => {
    for (const [name, body] of assets) {
      assert.match(name, /^[a-z][a-z-]*\.(?:ts|js|css)$/u);
      if (!name.endsWith('.css')) assert.equal(stripTypeScriptTypes(body), body, name);
    }
  });

  test('are served unchanged to a browser, with the content type of their name', async (context) => {
    const { url } = await startSidecar(context, null);
    assert.equal((await ask(url, '/')).body.toString(), readPage());
    for (const [name, body] of assets) {
      const answer = await ask(url, `/assets/${name}`);
      const type = name.endsWith('.css') ? STYLE : SCRIPT;
      assert.deepEqual([answer.status, answer.headers['content-type']], [200, type]);
      assert.equal(answer.body.toString(), body);
    }
  });
});
