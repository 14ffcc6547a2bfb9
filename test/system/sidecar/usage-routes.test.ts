import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { describe, test } from 'node:test';
import { text } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';
import { GRANULARITIES } from '../../../src/sidecar/api.ts';
import type { AggregateOutcome, AggregateTask } from '../../../src/sidecar/usage/usage-job.ts';
import { MAX_CACHED_ROWS, UsageReports } from '../../../src/sidecar/usage/usage-reports.ts';
import { ask, begin, jsonOf, problemOf } from '../../support/ask.ts';
import { until } from '../../support/scratch.ts';
import { startSidecar, sampleRecords } from '../../support/sidecar-fixture.ts';
import { createUsageFile } from '../../support/usage-files.ts';
import { expectedRows, expectedWaiting } from '../../support/usage-records.ts';

const FROM = '2024-01-01';
const TO = '2024-03-01';
const [FROM_S, TO_S] = [FROM, TO].map((day) => Date.parse(day) / 1000);

/** About 30 MB as CSV; the kernel's buffers for a connection take at most a third. */
const MANY_RECORDS = 600_000;
const ALL_RECORDS = '/usage.csv?by=record&from=2020-01-01&to=2021-01-01';

const CSV_TYPE = 'text/csv; charset=utf-8';

/** Invalid queries with the problem that is reported. */
const INVALID_QUERIES: readonly (readonly [query: string, problem: RegExp])[] = [
  ['by=week', /^"by" is "week": use one of hour, day, month/u],
  ['by=day&by=hour', /^"by" is given more than once/u],
  ['from=yesterday', /^"from" is "yesterday", which is not a time: use a date/u],
  ['to=2024-02-30', /^"to" is "2024-02-30", which is not a time/u],
  ['from=2024-02-01&to=2024-01-01', /^"from" \(2024-02-01T00:00:00.000Z\) must be before "to"/u],
  ['since=2024-01-01', /^unknown parameter "since": use by, from and to/u],
  ['__proto__=1', /^unknown parameter "__proto__"/u],
  ['from[]=2024-01-01', /^unknown parameter "from\[\]"/u],
  ['from=%00', /^"from" is "\\u0000", which is not a time/u],
  ['from=%zz', /^"from" is "%zz", which is not a time/u],
];

/** Connections to the server's port that it has not closed yet; see proc_net_tcp(5). */
function connectionsTo(url: string): number {
  const port = Number(new URL(url).port).toString(16).toUpperCase().padStart(4, '0');
  const isOpen = new RegExp(String.raw`^ *\d+: [\dA-F]+:${port} [\dA-F:]+ (?:01|08) `, 'u');
  return readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .filter((line) => isOpen.test(line)).length;
}

/** The first chunk of the response. The rest is not read. */
async function startOf(response: IncomingMessage): Promise<string> {
  const [chunk]: unknown[] = await once(response, 'data');
  response.pause();
  return String(chunk);
}

describe('usage over HTTP', () => {
  test('matches the database', async (context) => {
    const records = sampleRecords(3000);
    const { url } = await startSidecar(context, records);
    for (const by of GRANULARITIES) {
      const query = `?by=${by}&from=${FROM}&to=${TO}`;
      const rows = expectedRows(records, by, FROM_S ?? 0, TO_S ?? 0);
      assert.ok(rows.length > 3);
      const report = jsonOf(await ask(url, `/usage.json${query}`));
      assert.ok(typeof report === 'object' && report !== null && 'generated' in report);
      assert.ok('recorded' in report);
      assert.ok(Math.abs(Date.now() - Date.parse(String(report.generated))) < 60_000);
      assert.deepEqual(report, {
        by,
        from: `${FROM}T00:00:00.000Z`,
        to: `${TO}T00:00:00.000Z`,
        generated: report.generated,
        recorded: report.recorded,
        rows,
        waiting: expectedWaiting(records.filter(({ started }) => started < (TO_S ?? 0))),
      });

      const csv = await ask(url, `/usage.csv${query}`);
      assert.equal(csv.headers['content-disposition'], `attachment; filename="usage-by-${by}.csv"`);
      const lines = rows.map((row) => `${Object.values(row).join(',')}\r\n`);
      const header = 'start,mood,records,total_bytes,total_time,waiting_time\r\n';
      assert.equal(csv.body.toString(), header + lines.join(''));
    }
  });

  test('is compressed on request, and HEAD has no body', async (context) => {
    const { url } = await startSidecar(context, sampleRecords(3000));
    for (const path of [`/usage.json?from=${FROM}&to=${TO}`, `/usage.csv?by=record&from=${FROM}&to=${TO}`]) {
      const plain = await ask(url, path);
      const small = await ask(url, path, { headers: { 'accept-encoding': 'gzip' } });
      assert.equal(small.headers['content-encoding'], 'gzip');
      assert.ok(small.body.length < plain.body.length / 2);
      assert.ok(gunzipSync(small.body).equals(plain.body));
      const head = await ask(url, path, { method: 'HEAD' });
      assert.deepEqual([head.status, head.body.length], [200, 0]);
      assert.equal(head.headers['content-type'], plain.headers['content-type']);
    }
  });

  test('is rejected with a sentence for an invalid query', async (context) => {
    const { url } = await startSidecar(context, sampleRecords(1));
    for (const path of ['/usage.json', '/usage.csv']) {
      for (const [query, problem] of INVALID_QUERIES) {
        const answer = await ask(url, `${path}?${query}`);
        assert.equal(answer.status, 400, query);
        assert.match(problemOf(answer), problem);
      }
    }
    assert.equal((await ask(url, '/usage.json?by=record')).status, 400);
  });

  test('says why there is no report, and works as soon as possible', async (context) => {
    const { url, databasePath } = await startSidecar(context, null);
    const expectNone = async (state: string, problem: RegExp): Promise<void> => {
      for (const path of ['/usage.json', '/usage.csv']) {
        // Each query is different, because reports are cached for a second.
        const answer = await ask(url, `${path}?from=${(FROM_S ?? 0) + problem.source.length}`);
        assert.equal(answer.status, 503);
        assert.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
        assert.equal(answer.headers['content-disposition'], undefined);
        assert.match(problemOf(answer, ['state']), problem);
        assert.match(answer.body.toString(), new RegExp(`"state":"${state}"`, 'u'));
      }
    };
    await expectNone('missing', /^there is no usage database ".+" yet: start the relay/u);
    writeFileSync(databasePath, 'this is not a database, but long enough to be one');
    await expectNone('unreadable', /^can't read the usage database ".+": it is not an SQLite database$/u);
    rmSync(databasePath);
    createUsageFile(databasePath, { rows: 9 });
    const csv = await ask(url, '/usage.csv?by=month&from=2020-01-01&to=2021-01-01');
    assert.match(csv.body.toString(), /\r\n2020-09-01T00:00:00\.000Z,happy,9,18,94\.5,13\.5\r\n$/u);
  });

  test('is streamed as CSV, and the connection is closed on an error', async (context) => {
    const { url, sidecar, databasePath } = await startSidecar(context, null);
    createUsageFile(databasePath, { rows: MANY_RECORDS });
    const response = await begin(url, ALL_RECORDS);
    assert.equal(response.headers['content-type'], CSV_TYPE);
    const start = await startOf(response);
    assert.match(start, /^started,total_time,waiting_time,total_bytes,mood\r\n2020-09-13T12:26:40/u);
    renameSync(databasePath, `${databasePath}.moved`);
    await assert.rejects(text(response), /aborted/u);
    const [, problem = ''] = await sidecar.waitForLog(
      /"problem":"([^\n]+)","msg":"usage.csv download aborted"/u,
    );
    assert.match(problem, /^there is no usage database/u);

    renameSync(`${databasePath}.moved`, databasePath);
    const whole = await ask(url, ALL_RECORDS);
    assert.equal(whole.body.toString().split('\r\n').length, MANY_RECORDS + 2);
    assert.equal(sidecar.stderr, '');
  });

  test('is not read further after the client has disconnected', async (context) => {
    const { url, sidecar, databasePath } = await startSidecar(context, null);
    createUsageFile(databasePath, { rows: MANY_RECORDS });
    for (const headers of [{}, { 'accept-encoding': 'gzip' }]) {
      const response = await begin(url, ALL_RECORDS, { headers });
      await startOf(response);
      assert.ok(connectionsTo(url) > 0);
      response.destroy();
    }
    await until(() => connectionsTo(url) === 0);
    rmSync(databasePath);
    assert.equal((await ask(url, '/usage.csv')).status, 503);
    await sidecar.stop();
    assert.doesNotMatch(sidecar.log, /"level":"error"|download aborted/u);
    assert.equal(sidecar.stderr, '');
  });

  test('does not delay a snapshot, even with many queries', async (context) => {
    const { url, databasePath } = await startSidecar(context, null);
    createUsageFile(databasePath, { rows: MANY_RECORDS });
    let answered = 0;
    const queries = Array.from({ length: 20 }, async (_, index) => {
      await ask(url, `/usage.json?by=month&from=${index}&to=2021-01-01`);
      answered += 1;
    });
    const post = await ask(url, '/snapshots', { method: 'POST' });
    assert.equal(post.status, 201);
    assert.ok(answered < queries.length, 'the snapshot finished after all queries');
    await Promise.all(queries);
  });

  test('is cached with limits', async () => {
    const row = { start: FROM, mood: 'happy', records: 1, total_bytes: 1, total_time: 1, waiting_time: 1 };
    const recorded = { from: null, to: null, relay_started: null };
    let jobs = 0;
    const pool = {
      run: (_name: 'aggregate', { from }: AggregateTask): Promise<AggregateOutcome> => {
        jobs += 1;
        const rows = Array.from({ length: from }, () => row);
        return Promise.resolve({ kind: 'ok', rows, waiting: [], recorded, tookMs: 1000 });
      },
    };
    const source = { databasePath: '', scratchDirectory: '' };
    const reports = new UsageReports({ source, pool, clock: () => 0 });
    const jobsFor = async (...counts: readonly number[]): Promise<number> => {
      jobs = 0;
      for (const from of counts) await reports.report({ by: 'hour', from, to: 0 });
      return jobs;
    };
    const half = MAX_CACHED_ROWS / 2;
    assert.equal(await jobsFor(half, half - 1, half, half - 1), 2);
    assert.equal(await jobsFor(half + 1), 1);
    assert.equal(await jobsFor(half - 1, half + 1), 0, 'the last used report is kept');
    assert.equal(await jobsFor(half), 1, 'the least recently used report is dropped');
  });
});
