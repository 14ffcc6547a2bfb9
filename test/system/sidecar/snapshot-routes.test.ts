import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { gunzipSync } from 'node:zlib';
import Database from 'better-sqlite3';
import type { Snapshot, SnapshotList } from '../../../src/sidecar/api.ts';
import { ask, begin, jsonOf, problemOf } from '../../support/ask.ts';
import type { Answer } from '../../support/ask.ts';
import { startSidecar, sampleRecords } from '../../support/sidecar-fixture.ts';
import type { SidecarFixture } from '../../support/sidecar-fixture.ts';
import { insertRecords } from '../../support/usage-records.ts';

const LATEST = '/snapshots/latest.sqlite';

const HOUR_MS = 3_600_000;

/** Starts a sidecar with one snapshot of `count` records. */
async function openWithSnapshot(
  context: TestContext,
  count: number,
): Promise<SidecarFixture & { readonly bytes: Buffer; readonly name: string; readonly path: string }> {
  const fixture = await startSidecar(context, sampleRecords(count));
  const [name = ''] = namesIn(fixture.snapshots);
  return {
    ...fixture,
    name,
    path: `/snapshots/${name}`,
    bytes: readFileSync(join(fixture.snapshots, name)),
  };
}

function namesIn(directory: string): string[] {
  return readdirSync(directory).filter((name) => name.endsWith('.sqlite'));
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function recordsIn(context: TestContext, file: Buffer): number {
  const database = new Database(file, { readonly: true });
  context.after(() => database.close());
  assert.equal(database.pragma('integrity_check', { simple: true }), 'ok');
  return Number(database.prepare('SELECT count(*) FROM usage').pluck().get());
}

async function listOf(url: string): Promise<readonly Snapshot[]> {
  const answer = jsonOf(await ask(url, '/snapshots'));
  assert.ok(isList(answer));
  return answer.snapshots;
}

function isList(answer: unknown): answer is SnapshotList {
  return (
    typeof answer === 'object' &&
    answer !== null &&
    Object.keys(answer).join() === 'snapshots,problem,next' &&
    'snapshots' in answer &&
    Array.isArray(answer.snapshots)
  );
}

function post(url: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
  return ask(url, '/snapshots', { method: 'POST', headers });
}

describe('snapshots over HTTP', () => {
  test('are listed with their metadata', async (context) => {
    const { url, bytes, name } = await openWithSnapshot(context, 20);
    const answer = jsonOf(await ask(url, '/snapshots'));
    assert.ok(typeof answer === 'object' && answer !== null && 'snapshots' in answer && 'next' in answer);
    const [snapshot] = await listOf(url);
    assert.match(name, /^usage-\d{8}T\d{6}Z\.sqlite$/u);
    const time = snapshot?.time ?? '';
    assert.equal(`usage-${time.replaceAll(/[-:]|\.\d+/gu, '')}.sqlite`, name);
    const described = { name, time, bytes: bytes.length, sha256: sha256(bytes), rows: 20 };
    const next = new Date(Date.parse(time) + HOUR_MS).toISOString();
    assert.deepEqual(answer, { snapshots: [described], problem: null, next });
  });

  test('can be downloaded by name and as the latest', async (context) => {
    const { url, bytes, path, name } = await openWithSnapshot(context, 500);
    const [latest, named, head] = [
      await ask(url, LATEST),
      await ask(url, path),
      await ask(url, LATEST, { method: 'HEAD' }),
    ];
    assert.ok(latest.body.equals(bytes));
    assert.ok(named.body.equals(bytes));
    assert.equal(recordsIn(context, latest.body), 500);
    const [snapshot] = await listOf(url);
    for (const { status, headers } of [latest, named, head]) {
      assert.equal(status, 200);
      assert.equal(headers.etag, `"${sha256(bytes)}"`);
      assert.equal(headers['last-modified'], new Date(snapshot?.time ?? '').toUTCString());
      assert.equal(headers['content-length'], String(bytes.length));
      assert.equal(headers['content-type'], 'application/vnd.sqlite3');
      assert.equal(headers['content-disposition'], `attachment; filename="${name}"`);
      assert.equal(headers['content-location'], path);
      assert.equal(headers['accept-ranges'], 'bytes');
      assert.equal(headers['content-encoding'], undefined);
    }
    assert.equal(head.body.length, 0);
  });

  test('are not resent if unchanged', async (context) => {
    const { url, bytes, path } = await openWithSnapshot(context, 20);
    const { etag = '', 'last-modified': modified = '' } = (await ask(url, path)).headers;
    const earlier = new Date(Date.parse(modified) - 1000).toUTCString();
    const cases: readonly (readonly [headers: Record<string, string>, status: number])[] = [
      [{ 'if-none-match': etag }, 304],
      [{ 'if-none-match': `"other", ${etag}` }, 304],
      [{ 'if-none-match': '*' }, 304],
      [{ 'if-none-match': etag, 'accept-encoding': 'gzip' }, 304],
      [{ 'if-none-match': '"other"' }, 200],
      [{ 'if-none-match': '"other"', 'if-modified-since': modified }, 200],
      [{ 'if-modified-since': modified }, 304],
      [{ 'if-modified-since': earlier }, 200],
      [{ 'if-match': etag }, 200],
      [{ 'if-match': '"other"' }, 412],
      [{ 'if-unmodified-since': earlier }, 412],
    ];
    for (const [headers, status] of cases) {
      const answer = await ask(url, path, { headers });
      assert.equal(answer.status, status, JSON.stringify(headers));
      if (status === 304) {
        assert.equal(answer.body.length, 0);
        assert.equal(answer.headers.etag?.replace('W/', ''), etag);
      } else if (status === 200) assert.ok(answer.body.equals(bytes));
      else assertNoSnapshot(answer, 'precondition failed');
    }
  });

  test('can be downloaded in ranges', async (context) => {
    const { url, bytes, path } = await openWithSnapshot(context, 20);
    const { etag = '', 'last-modified': modified = '' } = (await ask(url, path)).headers;
    const size = bytes.length;
    const ranges: readonly (readonly [range: string, from: number, to: number])[] = [
      ['bytes=0-15', 0, 15],
      ['bytes=100-', 100, size - 1],
      ['bytes=-7', size - 7, size - 1],
      [`bytes=5-${size * 2}`, 5, size - 1],
    ];
    for (const [range, from, to] of ranges) {
      for (const more of [
        {},
        { 'if-range': etag },
        { 'if-range': modified },
        { 'accept-encoding': 'gzip' },
      ]) {
        const part = await ask(url, path, { headers: { range, ...more } });
        assert.equal(part.status, 206);
        assert.equal(part.headers['content-range'], `bytes ${from}-${to}/${size}`);
        assert.equal(part.headers['content-encoding'], undefined);
        assert.equal(part.headers.etag, etag);
        assert.ok(part.body.equals(bytes.subarray(from, to + 1)), range);
      }
    }
    const long = 'Fri, 01 Jan 2021 00:00:00 GMT';
    for (const condition of ['"other"', long]) {
      const whole = await ask(url, path, { headers: { range: 'bytes=0-15', 'if-range': condition } });
      assert.equal(whole.status, 200);
      assert.ok(whole.body.equals(bytes));
    }
    const beyond = await ask(url, path, { headers: { range: `bytes=${size}-` } });
    assert.equal(beyond.status, 416);
    assert.equal(beyond.headers['content-range'], `bytes */${size}`);
    assertNoSnapshot(beyond, 'range not satisfiable');
  });

  test('are compressed on request', async (context) => {
    const { url, bytes, path } = await openWithSnapshot(context, 2000);
    const small = await ask(url, path, { headers: { 'accept-encoding': 'gzip' } });
    assert.equal(small.status, 200);
    assert.equal(small.headers['content-encoding'], 'gzip');
    assert.match(small.headers.vary ?? '', /accept-encoding/iu);
    assert.equal(small.headers.etag, `W/"${sha256(bytes)}"`);
    assert.ok(small.body.length < bytes.length / 2);
    assert.ok(gunzipSync(small.body).equals(bytes));
    for (const unwanted of ['identity', 'gzip;q=0', 'deflate']) {
      const plain = await ask(url, path, { headers: { 'accept-encoding': unwanted } });
      assert.equal(plain.headers['content-encoding'], undefined, unwanted);
      assert.ok(plain.body.equals(bytes));
    }
  });

  test('are taken on request, once for concurrent requests', async (context) => {
    const { url, databasePath, name } = await openWithSnapshot(context, 20);
    const writer = new Database(databasePath);
    insertRecords(writer, sampleRecords(5));
    writer.close();
    const answers = await Promise.all([post(url), post(url)]);
    const snapshots = await listOf(url);
    assert.deepEqual(
      snapshots.map(({ rows }) => rows),
      [25, 20],
    );
    for (const answer of answers) {
      assert.equal(answer.status, 201);
      assert.deepEqual(jsonOf(answer), snapshots[0]);
      const { href } = new URL(answer.headers.location ?? '', `${url}/snapshots`);
      const download = await ask(url, new URL(href).pathname);
      assert.equal(sha256(download.body), snapshots[0]?.sha256);
      assert.equal(recordsIn(context, download.body), 25);
    }
    assert.equal((await ask(url, LATEST)).headers.etag, `"${snapshots[0]?.sha256}"`);
    assert.equal((await ask(url, `/snapshots/${name}`)).status, 200);
  });

  test('are not taken on request of other web pages', async (context) => {
    const { url, snapshots } = await openWithSnapshot(context, 20);
    const { host } = new URL(url);
    const foreign = [
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site', 'sec-fetch-dest': 'document' },
      { 'sec-fetch-site': 'cross-site', 'sec-fetch-dest': 'document', origin: `http://${host}` },
      { origin: 'http://evil.example' },
      { origin: 'null' },
      { origin: `http://${host}0` },
    ];
    for (const headers of foreign) {
      const answer = await post(url, headers);
      assert.equal(answer.status, 403, JSON.stringify(headers));
      assert.match(problemOf(answer), /other web pages/u);
    }
    assert.equal(namesIn(snapshots).length, 1);
    assert.equal((await post(url, { origin: `http://${host}` })).status, 201);
    assert.equal((await post(url, { 'sec-fetch-site': 'same-origin' })).status, 201);
  });

  test('cannot be taken without a database, which is reported', async (context) => {
    const { url, databasePath } = await startSidecar(context, null);
    const answer = await post(url);
    assert.equal(answer.status, 503);
    const problem = problemOf(answer);
    assert.match(problem, /^there is no usage database ".+" yet: start the relay, or set SIDECAR_USAGE_DB/u);
    const list = jsonOf(await ask(url, '/snapshots'));
    assert.ok(typeof list === 'object' && list !== null && 'problem' in list && 'snapshots' in list);
    assert.deepEqual([list.problem, list.snapshots], [problem, []]);
    assert.equal(problemOf(await ask(url, LATEST)), 'there is no snapshot yet');
    writeFileSync(databasePath, 'this is not a database, but long enough to be one');
    assert.match(problemOf(await post(url)), /is not an SQLite database$/u);
  });

  test('that an operator removed are no longer listed, and the previous one is the latest', async (context) => {
    const { url, snapshots, bytes, path } = await openWithSnapshot(context, 20);
    const { headers } = await post(url);
    const removed = new URL(headers.location ?? '', `${url}/snapshots`).pathname;
    rmSync(join(snapshots, removed.slice('/snapshots/'.length)));
    const answer = await ask(url, removed);
    assert.equal(answer.status, 404);
    assertNoSnapshot(answer, 'not found');
    assert.match(problemOf(await ask(url, removed)), /^no such snapshot/u);
    const latest = await ask(url, LATEST);
    assert.deepEqual([latest.status, latest.headers['content-location']], [200, path]);
    assert.ok(latest.body.equals(bytes));
  });

  test('survive clients that abort a download', async (context) => {
    const { url, sidecar } = await openWithSnapshot(context, 100_000);
    for (const headers of [{}, { 'accept-encoding': 'gzip' }]) {
      const response = await begin(url, LATEST, { headers });
      response.destroy();
    }
    assert.equal((await ask(url, LATEST, { method: 'HEAD' })).status, 200);
    await sidecar.stop();
    assert.doesNotMatch(sidecar.log, /"level":"(?:warn|error|fatal)"/u);
    assert.equal(sidecar.stderr, '');
  });
});

/** An error has no headers of a snapshot, so that it is not cached as one. */
function assertNoSnapshot(answer: Answer, problem: string): void {
  assert.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
  assert.equal(answer.headers['content-disposition'], undefined);
  assert.equal(answer.headers['last-modified'], undefined);
  assert.equal(problemOf(answer), problem);
}
