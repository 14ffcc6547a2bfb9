import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import type { UsageRecord } from '../../../src/usage/record.ts';
import { DatabaseThread, SqliteSink, UsageDatabaseError } from '../../../src/usage/sqlite-sink.ts';
import type { CurrentState, SqliteSinkEvents } from '../../../src/usage/sqlite-sink.ts';
import { scratch, until } from '../../support/scratch.ts';
import { runWithReference } from '../../support/usage-files.ts';

const IDLE: CurrentState = { rebooted: 1000.5, connected: 0, waiting: 0, incomplete_bytes: 0 };
const RECORD: UsageRecord = {
  started: 1_700_000_000.25,
  total_time: 12.5,
  waiting_time: 3.25,
  total_bytes: 4096,
  mood: 'happy',
};
const LONELY: UsageRecord = { ...RECORD, waiting_time: null, total_bytes: 0, mood: 'lonely' };

interface ObservedEvents {
  readonly failures: string[];
  readonly notices: string[];
  readonly deletions: number[];
  recoveries: number;
  dropped: number;
  /** Number of reports of dropped records. */
  dropReports: number;
}

async function open(
  context: TestContext,
  path: string,
  current: () => CurrentState = () => IDLE,
): Promise<{ sink: SqliteSink; observed: ObservedEvents }> {
  const observed: ObservedEvents = {
    failures: [],
    notices: [],
    deletions: [],
    recoveries: 0,
    dropped: 0,
    dropReports: 0,
  };
  const events: SqliteSinkEvents = {
    onFailed: ({ code }) => observed.failures.push(code),
    onRecovered: () => {
      observed.recoveries += 1;
    },
    onDropped: (count) => {
      observed.dropped += count;
      observed.dropReports += 1;
    },
    onNotice: ({ kind }) => observed.notices.push(kind),
    onDeleted: (count) => observed.deletions.push(count),
  };
  const sink = await SqliteSink.open(path, current, events);
  context.after(() => sink.close());
  return { sink, observed };
}

function rows(path: string, query = 'SELECT * FROM usage ORDER BY rowid'): unknown[] {
  const database = new Database(path, { readonly: true });
  try {
    return database.prepare(query).all();
  } finally {
    database.close();
  }
}

const row = ({ mood, ...rest }: UsageRecord): unknown => ({ ...rest, result: mood });

test('a new database has the reference schema, its version, and fractions of seconds', async (context) => {
  const path = join(await scratch(context), 'usage.sqlite');
  const { sink } = await open(context, path);
  sink.record(RECORD);
  sink.record(LONELY);
  await sink.close();
  assert.deepEqual(rows(path), [row(RECORD), row(LONELY)]);
  assert.deepEqual(rows(path, 'SELECT version FROM version'), [{ version: 1 }]);
  assert.deepEqual(rows(path, "SELECT name FROM sqlite_schema WHERE type = 'index' ORDER BY name"), [
    { name: 'usage_result_index' },
    { name: 'usage_started_index' },
  ]);
});

test('records are on disk soon, without a close', async (context) => {
  const path = join(await scratch(context), 'usage.sqlite');
  const { sink } = await open(context, path);
  sink.record(RECORD);
  await until(() => rows(path).length === 1);
  await until(() => sink.queued === 0);
  await sink.close();
});

test('a database of the reference is continued', async (context) => {
  const path = join(await scratch(context), 'usage.sqlite');
  const program = `db = get_db(sys.argv[1])
db.execute("INSERT INTO usage VALUES (1600000000, 5.5, NULL, 0, 'lonely')")
db.execute("INSERT INTO current VALUES (1600000000, 1600000100, 0, 0, 0)")
db.commit()`;
  if (runWithReference(context, program, path) === null) return;
  const { sink } = await open(context, path);
  sink.record(RECORD);
  await sink.close();
  assert.deepEqual(rows(path, 'SELECT started, result FROM usage ORDER BY started'), [
    { started: 1_600_000_000, result: 'lonely' },
    { started: RECORD.started, result: 'happy' },
  ]);
  assert.equal(rows(path, 'SELECT * FROM current').length, 1);
  const count = 'print(get_db(sys.argv[1]).execute("SELECT COUNT(*) AS n FROM usage").fetchone()["n"])';
  assert.equal(runWithReference(context, count, path)?.trim(), '2');
});

test("tables of other programs stay beside the relay's own", async (context) => {
  const path = join(await scratch(context), 'usage.sqlite');
  createDatabase(
    path,
    `PRAGMA journal_mode = wal;
     CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER); INSERT INTO _litestream_seq VALUES (1, 7);
     CREATE TABLE _litestream_lock (id INTEGER)`,
  );
  const { sink } = await open(context, path);
  sink.record(RECORD);
  await sink.close();
  assert.deepEqual(rows(path), [row(RECORD)]);
  assert.deepEqual(rows(path, 'SELECT * FROM _litestream_seq'), [{ id: 1, seq: 7 }]);
});

const unusable: Record<string, { create: (path: string) => void; reason: RegExp }> = {
  garbage: {
    create: (path) => writeFileSync(path, 'garbage '.repeat(1000)),
    reason: /not an SQLite database/u,
  },
  'a directory': { create: (path) => mkdirSync(path), reason: /directory/u },
  'a database of something else': {
    create: (path) => createDatabase(path, 'CREATE TABLE usage (title TEXT)'),
    reason: /not of a transit relay/u,
  },
  'a schema of another version': {
    create: (path) =>
      createDatabase(path, 'CREATE TABLE version (version INTEGER); INSERT INTO version VALUES (2)'),
    reason: /schema version is 2/u,
  },
  'a schema that lacks a column': {
    create: (path) =>
      createDatabase(
        path,
        `CREATE TABLE version (version INTEGER); INSERT INTO version VALUES (1);
         CREATE TABLE current (rebooted, updated, connected, waiting, incomplete_bytes);
         CREATE TABLE usage (started, total_time, waiting_time, total_bytes)`,
      ),
    reason: /"usage" lacks result/u,
  },
  'a database cut off in the middle': {
    create: (path) => {
      createDatabase(path, 'CREATE TABLE version (version INTEGER); INSERT INTO version VALUES (1)');
      writeFileSync(path, readFileSync(path).subarray(0, 5000));
    },
    reason: /version table is empty/u,
  },
  'a database with a garbled page': {
    create: (path) => {
      createDatabase(path, 'CREATE TABLE version (version INTEGER); INSERT INTO version VALUES (1)');
      writeFileSync(path, readFileSync(path).fill(0x55, 4096));
    },
    reason: /the file is corrupt/u,
  },
};

function createDatabase(path: string, sql: string): void {
  const database = new Database(path);
  database.exec(sql);
  database.close();
}

for (const [what, { create, reason }] of Object.entries(unusable)) {
  test(`${what} is rejected with a reason and not changed`, async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    create(path);
    const before = what === 'a directory' ? null : readFileSync(path);
    await assert.rejects(open(context, path), (error) => {
      assert.ok(error instanceof UsageDatabaseError);
      assert.match(error.message, reason);
      assert.ok(error.message.includes(path));
      return true;
    });
    if (before !== null) assert.ok(readFileSync(path).equals(before));
  });
}

test('a path in a missing directory is rejected', async (context) => {
  const path = join(await scratch(context), 'missing', 'usage.sqlite');
  await assert.rejects(open(context, path), /there is no directory/u);
});

// At once, because each waits for a timer or a lock.
describe('a sink that waits', { concurrency: true }, () => {
  test('the current row is written at the start, on changes, and at the end', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    let state = IDLE;
    const before = Date.now() / 1000;
    const { sink } = await open(context, path, () => state);
    const current = (): unknown[] =>
      rows(path, 'SELECT rebooted, connected, waiting, incomplete_bytes FROM current');
    await until(() => current().length === 1);
    assert.deepEqual(current(), [IDLE]);
    state = { ...IDLE, connected: 2, incomplete_bytes: 77 };
    await until(() => rows(path, 'SELECT * FROM current WHERE connected = 2').length === 1);
    state = { ...IDLE, waiting: 5 };
    await sink.close();
    assert.deepEqual(current(), [state]);
    assert.equal(rows(path, `SELECT * FROM current WHERE updated >= ${before}`).length, 1);
  });

  test('the bytes of a pair are in its record or in the current row, never in both', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    let current = { ...IDLE, connected: 2, incomplete_bytes: 4096 };
    const { sink } = await open(context, path, () => current);
    const bytes = `SELECT (SELECT count(*) FROM usage) AS records, incomplete_bytes FROM current`;
    for (let records = 0; records < 3; records += 1) {
      current = { ...IDLE, connected: 2, incomplete_bytes: 4096 + records };
      await until(() => rows(path, `${bytes} WHERE incomplete_bytes = ${4096 + records}`).length === 1);
      current = IDLE;
      sink.record(RECORD);
      await until(() => rows(path).length === records + 1);
      assert.deepEqual(rows(path, bytes), [{ records: records + 1, incomplete_bytes: 0 }]);
    }
  });

  test('records wait for a locked database, and nothing is lost', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    const { sink, observed } = await open(context, path);
    const other = new Database(path);
    other.exec('BEGIN IMMEDIATE');
    for (let at = 0; at < 6000; at += 1) sink.record(RECORD);
    await until(() => observed.failures.length > 0);
    assert.deepEqual(observed.failures, ['SQLITE_BUSY']);
    assert.equal(sink.queued, 6000);
    other.exec('COMMIT');
    other.close();
    await until(() => sink.queued === 0);
    assert.equal(rows(path).length, 6000);
    assert.deepEqual([observed.recoveries, observed.dropped], [1, 0]);
    await sink.close();
  });

  test('a database that is locked at the start is retried', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    await (await open(context, path)).sink.close();
    const other = new Database(path);
    other.pragma('journal_mode = DELETE');
    other.exec('BEGIN EXCLUSIVE');
    const { sink, observed } = await open(context, path);
    sink.record(RECORD);
    other.exec('COMMIT');
    other.close();
    await until(() => sink.queued === 0);
    await sink.close();
    assert.equal(rows(path).length, 1);
    assert.ok(observed.failures.length > 0);
  });

  test('records that can not be written before the close are counted as lost', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    const { sink, observed } = await open(context, path);
    const other = new Database(path);
    other.exec('BEGIN IMMEDIATE');
    sink.record(RECORD);
    sink.record(RECORD);
    await sink.close();
    assert.equal(observed.dropped, 2);
    other.close();
  });
});

test('a full queue drops new records and reports their number, at once and then every ten seconds', async (context) => {
  const path = join(await scratch(context), 'usage.sqlite');
  const { sink, observed } = await open(context, path);
  const clock = performance.now.bind(performance);
  let skippedMs = 0;
  context.mock.method(performance, 'now', () => clock() + skippedMs);
  for (let at = 0; at < 100_003; at += 1) sink.record(RECORD);
  assert.deepEqual([observed.dropReports, observed.dropped], [1, 1]);
  skippedMs += 10_000;
  sink.record(RECORD);
  assert.deepEqual([observed.dropReports, observed.dropped], [2, 4]);
  sink.record(RECORD);
  assert.deepEqual([observed.dropReports, observed.dropped], [2, 4]);
  await sink.close();
  assert.deepEqual([observed.dropReports, observed.dropped], [3, 5]);
  assert.deepEqual(rows(path, 'SELECT COUNT(*) AS n FROM usage'), [{ n: 100_000 }]);
});

describe('a sink whose time the test controls', () => {
  /** Stops the clock. Returns a function that lets time pass, after which the sink checks what is due. */
  function stopClock(context: TestContext): (ms: number) => void {
    let nowMs = 0;
    context.mock.method(performance, 'now', () => nowMs);
    context.mock.timers.enable({ apis: ['setInterval'] });
    return (ms) => {
      nowMs += ms;
      context.mock.timers.tick(100);
    };
  }

  test('retries a failed write after delays that grow to five seconds', async (context) => {
    const directory = join(await scratch(context), 'data');
    mkdirSync(directory);
    const pass = stopClock(context);
    let writes = 0;
    const { sink, observed } = await open(context, join(directory, 'usage.sqlite'), () => {
      writes += 1;
      return IDLE;
    });
    rmSync(directory, { recursive: true });
    sink.record(RECORD);
    pass(0);
    for (const [index, delayMs] of [100, 500, 1000, 2000, 5000, 5000].entries()) {
      await until(() => observed.failures.length === index + 1);
      pass(delayMs - 1);
      assert.equal(writes, index + 1);
      pass(1);
      assert.equal(writes, index + 2);
    }
    await until(() => observed.failures.length === 7);
    mkdirSync(directory);
    pass(5000);
    await until(() => sink.queued === 0);
    assert.equal(observed.recoveries, 1);
    await sink.close();
  });

  test('writes the current row a second after the last write if it has changed, and else after 30 seconds', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    const pass = stopClock(context);
    let [state, reads] = [IDLE, 0];
    const { sink } = await open(context, path, () => {
      reads += 1;
      return state;
    });
    const writeRecord = async (): Promise<void> => {
      sink.record(RECORD);
      await until(() => {
        pass(0);
        return sink.queued === 0;
      });
      reads = 0;
    };
    await writeRecord();
    state = { ...IDLE, waiting: 1 };
    pass(999);
    assert.equal(reads, 0);
    pass(1);
    await until(() => rows(path, 'SELECT * FROM current WHERE waiting = 1').length === 1);
    await writeRecord();
    const reader = new Database(path, { readonly: true });
    context.after(() => reader.close());
    const version = (): unknown => reader.pragma('data_version', { simple: true });
    const before = version();
    pass(29_999);
    // Only compared.
    assert.equal(reads, 1);
    pass(1);
    await until(() => version() !== before);
    await sink.close();
  });
});

test('a database thread that has ended is replaced with the next request', async (context) => {
  const path = join(await scratch(context), 'usage.sqlite');
  const running = DatabaseThread.runningCount;
  const thread = new DatabaseThread(path);
  for (let turn = 0; turn < 2; turn += 1) {
    assert.equal((await thread.request({ kind: 'open' })).kind, 'done');
    assert.equal(DatabaseThread.runningCount, running + 1);
    await thread.request({ kind: 'close' });
    await until(() => DatabaseThread.runningCount === running);
  }
  await thread.close();
});
