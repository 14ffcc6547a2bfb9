import assert from 'node:assert/strict';
import { readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setInterval } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { JobError, JobPool } from '../../src/sidecar/job-pool.ts';
import { ask } from '../support/ask.ts';
import { CONDITION_TIMEOUT_MS, Program } from '../support/programs.ts';
import { startSidecar } from '../support/sidecar-fixture.ts';
import type { SidecarProcess } from '../support/sidecar-process.ts';
import { scratch, until } from '../support/scratch.ts';
import { ensureSchema } from '../../src/usage/schema.ts';
import { createUsageFile } from '../support/usage-files.ts';
import { ProcessorClock } from './support/processor-clock.ts';
import { withBystander } from './support/with-bystander.ts';

/** Time for a stop by a `ProcessorClock`, in milliseconds. It takes about 100. */
const STOP_MS = 5000;

/** Pause between two readings of the clock, in milliseconds. */
const SAMPLE_MS = 20;

/**
 * CPU time in user mode of a thread that is inside SQLite and does not leave it, in hundredths of a second. The start of a
 * process takes less.
 */
const INSIDE_TICKS = 100;

const JOB_TIMEOUT_MS = 60_000;

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

/** The sidecar never sees the database before it is hostile: it may be about to take its first snapshot. */
function makeHostile(path: string, sql: string): void {
  const unfinished = `${path}.unfinished`;
  createUsageFile(unfinished, { journalMode: 'delete' });
  const database = new Database(unfinished);
  database.exec(`ALTER TABLE usage RENAME TO was; ${sql}`);
  database.close();
  renameSync(unfinished, path);
}

/**
 * An index on `started` whose pages refer to each other so that it has more entries than can be read: each of
 * 15 new pages refers many times to the page below it. The table itself is intact.
 */
function makeEndlessIndex(path: string): void {
  const pageBytes = 512;
  const unfinished = `${path}.unfinished`;
  const filler = new Database(unfinished);
  filler.pragma(`page_size = ${pageBytes}`);
  ensureSchema(filler);
  filler.exec(
    `INSERT INTO usage SELECT 1600000000, 1, 1, 1, 'happy' FROM (${ENDLESS} SELECT i FROM n LIMIT 5000)`,
  );
  const root = Number(
    filler.prepare("SELECT rootpage FROM sqlite_schema WHERE name = 'usage_started_index'").pluck().get(),
  );
  filler.close();
  const file = readFileSync(unfinished);
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
  writeFileSync(unfinished, Buffer.concat(pages));
  renameSync(unfinished, path);
}

async function stopsInTime(context: TestContext, sidecar: SidecarProcess): Promise<void> {
  const clock = new ProcessorClock(sidecar.pid);
  const began = clock.now();
  // The run delay of a process is gone when the process is.
  const sampling = globalThis.setInterval(() => clock.elapsedMs(began), SAMPLE_MS);
  await sidecar.stop();
  clearInterval(sampling);
  const ms = clock.elapsedMs(began);
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
      await stopsInTime(context, sidecar);
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
      await until(() => childrenOf(sidecar.pid).filter(hasJobInsideSqlite).length === answers.length);
      assert.equal(await Promise.race([...answers, Promise.resolve('none')]), 'none');
      assert.equal((await ask(url, '/healthz')).status, 200);
      assert.equal((await ask(url, '/live.json')).status, 200);
      // The check of a copy finds it: such a database has no snapshot.
      assert.equal((await ask(url, '/snapshots', { method: 'POST' })).status, 503);
      await stopsInTime(context, sidecar);
      assert.deepEqual(await Promise.all(answers), ['aborted', 'aborted']);
    });
    assert.equal(sidecar.stderr, '');
  });

  test('with an endless index is abandoned after the query timeout, and the next query succeeds', async (context) => {
    const databasePath = join(await scratch(context), 'usage.sqlite');
    makeEndlessIndex(databasePath);
    const pool = new JobPool({ maxProcesses: 1, jobTimeoutMs: JOB_TIMEOUT_MS });
    context.after(() => pool.close());
    // The next query has to start a process first, which the timeout must not end.
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const source = { databasePath, scratchDirectory: join(await scratch(context), 'scratch') };
    const endless = pool.run('aggregate', {
      source,
      by: 'day',
      from: 1_500_000_000,
      to: 1_700_000_000,
      now: 1_700_000_000,
    });
    const next = pool.run('csvPage', {
      source,
      by: 'record',
      position: { from: 1_500_000_000, afterRowid: null },
      to: 1_500_000_001,
    });
    for await (const children of setInterval(SAMPLE_MS, childrenOf))
      if (children(process.pid).some(hasJobInsideSqlite)) break;
    context.mock.timers.tick(JOB_TIMEOUT_MS);
    await assert.rejects(
      endless,
      (error) => error instanceof JobError && /timed out after 60 s/u.test(error.message),
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
  await until(() =>
    threadsOf(relay.pid).some((thread) => thread !== relay.pid && isInsideSqlite(relay.pid, thread)),
  );
  const began = performance.now();
  relay.kill('SIGTERM');
  // Only SIGKILL ends a thread that is inside SQLite.
  await assert.rejects(relay.succeeds(CONDITION_TIMEOUT_MS), /SIGKILL/u);
  context.diagnostic(`ended after ${(performance.now() - began).toFixed(0)} ms`);
  assert.match(
    relay.stdout,
    /"msg":"worker thread is stuck; killing the process"\}\n.*"msg":"stopped"\}\n$/u,
  );
});

function threadsOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).map(Number);
}

function childrenOf(pid: number): number[] {
  return threadsOf(pid).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').split(' ').filter(Boolean).map(Number),
  );
}

/** Whether the thread is busy with a query; false if it has ended. */
function isInsideSqlite(pid: number, thread: number): boolean {
  try {
    const fields = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1').split(') ')[1]?.split(' ');
    return Number(fields?.[11]) > INSIDE_TICKS;
  } catch {
    return false;
  }
}

/** Job processes query in their main thread. */
function hasJobInsideSqlite(pid: number): boolean {
  return isInsideSqlite(pid, pid);
}
