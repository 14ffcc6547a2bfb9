import assert from 'node:assert/strict';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { JobError, JobPool } from '../../src/sidecar/job-pool.ts';
import { ask } from '../support/ask.ts';
import { Program, eventually } from '../support/programs.ts';
import { startSidecar } from '../support/sidecar-fixture.ts';
import { scratch } from '../support/scratch.ts';
import { ensureSchema } from '../../src/usage/schema.ts';
import { createUsageFile } from '../support/usage-files.ts';
import { withBystander } from './support/with-bystander.ts';

/** Time for a stop, in milliseconds. It takes about 100. */
const STOP_MS = 5000;

const ENDLESS = 'WITH RECURSIVE n(i) AS (SELECT 1600000000 UNION ALL SELECT i + 1 FROM n)';

/** Replacements of the table `usage`, and the expected response to a query. */
const REPLACEMENTS: readonly (readonly [what: string, sql: string, problem: RegExp])[] = [
  [
    'an endless view',
    `CREATE VIEW usage AS ${ENDLESS}
     SELECT i AS started, 1 AS total_time, 1 AS waiting_time, 1 AS total_bytes, 'happy' AS result FROM n`,
    /its .*usage.* is a view, not a table/u,
  ],
  [
    'a virtual table',
    'CREATE VIRTUAL TABLE usage USING fts5(started, total_time, waiting_time, total_bytes, result)',
    /its .*usage.* is a virtual table, not a table/u,
  ],
  [
    'a table with a generated column',
    `CREATE TABLE usage (started, total_time, waiting_time, total_bytes, result AS (hex(zeroblob(100000))));
     INSERT INTO usage VALUES (1600000000, 1, 1, 1)`,
    /its table .*usage.* has the generated column result/u,
  ],
];

function makeHostile(path: string, sql: string): void {
  createUsageFile(path, { journalMode: 'delete' });
  const database = new Database(path);
  database.exec(`ALTER TABLE usage RENAME TO was; ${sql}`);
  database.close();
}

/**
 * An index on `started` whose pages refer to each other so that it has more entries than can be read: each of
 * 15 new pages refers many times to the page below it. The table itself is intact.
 */
function makeEndlessIndex(path: string): void {
  const pageBytes = 512;
  const filler = new Database(path);
  filler.pragma(`page_size = ${pageBytes}`);
  ensureSchema(filler);
  filler.exec(
    `INSERT INTO usage SELECT 1600000000, 1, 1, 1, 'happy' FROM (${ENDLESS} SELECT i FROM n LIMIT 5000)`,
  );
  const root = Number(
    filler.prepare("SELECT rootpage FROM sqlite_schema WHERE name = 'usage_started_index'").pluck().get(),
  );
  filler.close();
  const file = readFileSync(path);
  const pages: Buffer[] = [file];
  const at = (page: number): Buffer => file.subarray((page - 1) * pageBytes, page * pageBytes);
  const cellsOf = (page: Buffer): number[] =>
    Array.from({ length: page.readUInt16BE(3) }, (_, cell) => page.readUInt16BE(12 + 2 * cell));
  const INTERIOR_INDEX = 2;
  assert.equal(at(root)[0], INTERIOR_INDEX);
  // From the root down, always the first child.
  let leaf = root;
  while (at(leaf)[0] === INTERIOR_INDEX) leaf = at(leaf).readUInt32BE(cellsOf(at(leaf))[0] ?? 0);
  const count = file.length / pageBytes;
  const levels = 15;
  const original = Buffer.from(at(root));
  for (let level = 0; level <= levels; level += 1) {
    const page = level === 0 ? at(root) : Buffer.from(original);
    const below = level === levels ? leaf : count + level + 1;
    for (const cell of cellsOf(page)) page.writeUInt32BE(below, cell);
    page.writeUInt32BE(below, 8);
    if (level > 0) pages.push(page);
  }
  file.writeUInt32BE(count + levels, 28);
  writeFileSync(path, Buffer.concat(pages));
}

async function stopsInTime(context: TestContext, stop: () => Promise<void>): Promise<void> {
  const began = performance.now();
  await stop();
  const ms = performance.now() - began;
  context.diagnostic(`stopped after ${ms.toFixed(0)} ms`);
  assert.ok(ms < STOP_MS, `stopped after ${ms} ms`);
}

describe('a hostile usage database', () => {
  for (const [what, sql, problem] of REPLACEMENTS) {
    test(`with ${what} is not read, and the sidecar reports why`, async (context) => {
      const { sidecar, url, databasePath, snapshots } = await startSidecar(context, null);
      makeHostile(databasePath, sql);
      await withBystander(context, `a database with ${what}`, async () => {
        for (const path of ['/usage.json?from=2020-01-01', '/usage.csv?by=record&from=2020-01-01']) {
          const answer = await ask(url, path);
          assert.equal(answer.status, 503);
          assert.match(answer.body.toString(), problem);
        }
        const snapshot = await ask(url, '/snapshots', { method: 'POST' });
        assert.equal(snapshot.status, 503);
        assert.match(snapshot.body.toString(), problem);
        assert.equal((await ask(url, '/metrics')).status, 200);
        assert.equal((await ask(url, '/healthz')).status, 200);
      });
      await stopsInTime(context, () => sidecar.stop());
      assert.deepEqual(
        readdirSync(snapshots).filter((name) => name !== '.scratch'),
        [],
      );
      assert.equal(sidecar.stderr, '');
    });
  }

  test('with an endless index delays neither other responses nor the stop of the sidecar', async (context) => {
    const { sidecar, url, databasePath } = await startSidecar(context, null);
    makeEndlessIndex(databasePath);
    await withBystander(context, 'an endless index', async () => {
      const answers = ['day', 'month'].map((by) =>
        ask(url, `/usage.json?by=${by}&from=2020-01-01&to=2021-01-01`).then(
          ({ status, body }) => `${status} ${body.toString()}`,
          () => 'aborted',
        ),
      );
      // Both query processes are inside it now.
      await sleep(1000);
      assert.equal(await Promise.race([...answers, Promise.resolve('none')]), 'none');
      assert.equal((await ask(url, '/healthz')).status, 200);
      assert.equal((await ask(url, '/live.json')).status, 200);
      // The check of a copy finds it: such a database has no snapshot.
      assert.equal((await ask(url, '/snapshots', { method: 'POST' })).status, 503);
      await stopsInTime(context, () => sidecar.stop());
      assert.deepEqual(await Promise.all(answers), ['aborted', 'aborted']);
    });
    assert.equal(sidecar.stderr, '');
  });

  test('with an endless index is abandoned after the query timeout, and the next query succeeds', async (context) => {
    const databasePath = join(await scratch(context), 'usage.sqlite');
    makeEndlessIndex(databasePath);
    const pool = new JobPool({ maxProcesses: 1, jobTimeoutMs: 1500 });
    context.after(() => pool.close());
    const source = { databasePath, scratchDirectory: join(await scratch(context), 'scratch') };
    const endless = pool.run('aggregate', { source, by: 'day', from: 1_500_000_000, to: 1_700_000_000 });
    const next = pool.run('csvPage', {
      source,
      by: 'record',
      position: { from: 1_500_000_000, afterRowid: null },
      to: 1_500_000_001,
    });
    await assert.rejects(
      endless,
      (error) => error instanceof JobError && /timed out after 1\.5 s/u.test(error.message),
    );
    assert.deepEqual(await next, { kind: 'ok', text: '', next: null });
  });
});

test('a relay with a hanging database can be stopped', async (context) => {
  const path = join(await scratch(context), 'usage.sqlite');
  createUsageFile(path);
  const database = new Database(path);
  database.exec(`CREATE TRIGGER endless AFTER INSERT ON usage BEGIN SELECT count(*) FROM (SELECT 1 FROM a AS b, a AS c, a AS d, a AS e, a AS f, a AS g, a AS h); END;
    CREATE TABLE a AS SELECT value FROM json_each('[${'0,'.repeat(999)}0]')`);
  database.close();
  const main = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
  await using relay = new Program([process.execPath, main], {
    env: {
      PATH: process.env['PATH'],
      RELAY_LISTEN: 'tcp:0:interface=127.0.0.1',
      RELAY_STATUS_LISTEN: '',
      RELAY_USAGE_DB: path,
      RELAY_DRAIN_DELAY: '0',
    },
  });
  const [, port = ''] = await relay.waitForOutput(/"role":"raw","endpoint":"tcp:(\d+):/u);
  connect(Number(port), '127.0.0.1')
    .on('error', () => undefined)
    .end('nonsense\n');
  await eventually(
    () => 'a thread is busy',
    10_000,
    () => (ticksOf(relay.pid) > 50 ? true : null),
  );
  const began = performance.now();
  relay.kill('SIGTERM');
  // Only SIGKILL ends a thread that is inside SQLite.
  await assert.rejects(relay.succeeds(20_000), /SIGKILL/u);
  context.diagnostic(`ended after ${(performance.now() - began).toFixed(0)} ms`);
  assert.match(
    relay.stdout,
    /"msg":"worker thread is stuck; killing the process"\}\n.*"msg":"stopped"\}\n$/u,
  );
});

/** CPU time in user mode of the busiest thread except the event loop, in hundredths of a second. */
function ticksOf(pid: number): number {
  return readdirSync(`/proc/${pid}/task`)
    .filter((thread) => Number(thread) !== pid)
    .map((thread) =>
      Number(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1').split(') ')[1]?.split(' ')[11]),
    )
    .reduce((most, ticks) => Math.max(most, ticks), 0);
}
