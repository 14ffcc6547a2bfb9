import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { pino } from 'pino';
import { RelayUsage } from '../../../src/relay/relay-usage.ts';
import { Warnings } from '../../../src/relay/warnings.ts';
import { UsageRecorder } from '../../../src/usage/record.ts';
import type { UsageRecord } from '../../../src/usage/record.ts';
import { scratch, until } from '../../support/scratch.ts';
import { createUsageFile } from '../../support/usage-files.ts';

const RECORD: UsageRecord = { started: 1, total_time: 2, waiting_time: 0.5, total_bytes: 9, mood: 'happy' };

/** Of these, a thousand are recorded at once. */
const FAILED: UsageRecord = { ...RECORD, waiting_time: null, total_bytes: 0, mood: 'errory' };

const STATE = { rebooted: 1, connected: 0, waiting: 0, incomplete_bytes: 0 };

interface Outputs {
  readonly databasePath?: string;
  readonly logFd?: number;
  readonly retentionMs?: number;
}

interface Fixture {
  readonly usage: RelayUsage;
  readonly recorder: UsageRecorder;
  /** Level, message and fields of each log line. */
  readonly log: Record<string, unknown>[];
  readonly close: () => Promise<void>;
}

async function open(context: TestContext, { databasePath, logFd, retentionMs }: Outputs): Promise<Fixture> {
  const log: Record<string, unknown>[] = [];
  const logger = pino(
    { base: null, timestamp: false, formatters: { level: (level) => ({ level }) } },
    { write: (line) => log.push(JSON.parse(line)) },
  );
  const recorder = new UsageRecorder(0);
  const usage = new RelayUsage(recorder, logger, new Warnings(() => 0), () => 0);
  let closed: Promise<void> | null = null;
  const close = (): Promise<void> => (closed ??= usage.close());
  context.after(close);
  const outputs = {
    databasePath: databasePath ?? null,
    logFd: logFd ?? null,
    retentionMs: retentionMs ?? null,
    blurSeconds: 0,
  };
  await usage.open(outputs, () => STATE);
  return { usage, recorder, log, close };
}

describe('the usage outputs of a relay', () => {
  test('are a database and JSON lines, each with its own count', async (context) => {
    const directory = await scratch(context);
    const lines = join(directory, 'usage.log');
    const logFd = openSync(lines, 'w');
    const { usage, recorder, log, close } = await open(context, {
      databasePath: join(directory, 'usage.sqlite'),
      logFd,
    });
    recorder.record(RECORD);
    recorder.record(RECORD);
    await close();
    assert.deepEqual(usage.databaseRecords, { written: 2, dropped: 0 });
    assert.deepEqual(usage.logRecords, { written: 2, dropped: 0 });
    assert.deepEqual(
      readFileSync(lines, 'utf8')
        .split('\n')
        .map((line) => (line === '' ? null : JSON.parse(line))),
      [RECORD, RECORD, null],
    );
    assert.deepEqual(log, []);
  });

  test('suppress records above the rate limit, and log that once at first', async (context) => {
    const directory = await scratch(context);
    const { usage, recorder, log, close } = await open(context, {
      databasePath: join(directory, 'usage.sqlite'),
    });
    for (let count = 0; count < 1003; count += 1) recorder.record(FAILED);
    assert.deepEqual([usage.suppressed.errory, usage.queued], [3, 1000]);
    const msg = 'usage records suppressed: more than their rate limit; metrics count all of them';
    assert.deepEqual(log, [{ level: 'warn', event: 'usage_records_suppressed', count: 1, msg }]);
    await close();
  });

  test('without a file, no record counts as suppressed', async (context) => {
    const { usage, recorder } = await open(context, {});
    for (let count = 0; count < 1003; count += 1) recorder.record(FAILED);
    assert.equal(usage.suppressed.errory, 0);
    assert.deepEqual([usage.queued, usage.databaseRecords], [0, { written: 0, dropped: 0 }]);
  });
});

describe('the log about the usage database', () => {
  test('has the first of many failures, each twelfth after it, and the recovery', async (context) => {
    const directory = join(await scratch(context), 'data');
    mkdirSync(directory);
    let nowMs = 0;
    context.mock.method(performance, 'now', () => nowMs);
    context.mock.timers.enable({ apis: ['setInterval'] });
    const { usage, recorder, log, close } = await open(context, {
      databasePath: join(directory, 'usage.sqlite'),
    });
    rmSync(directory, { recursive: true });
    recorder.record(RECORD);
    const writeUntil = async (isReached: () => boolean): Promise<void> => {
      while (!isReached()) {
        nowMs += 5000;
        context.mock.timers.tick(100);
        await nextTurn();
      }
    };
    await writeUntil(() => log.length === 2);
    const code = `there is no directory "${directory}"`;
    const event = 'usage_database_write_failed';
    const msg = 'usage database write failed; will retry';
    const failure = { level: 'warn', event, code, queued: 1, msg };
    assert.deepEqual(log.splice(0), [
      { ...failure, failures: 1 },
      { ...failure, failures: 13 },
    ]);
    mkdirSync(directory);
    await writeUntil(() => usage.queued === 0);
    const [recovery, ...more] = log;
    assert.deepEqual([recovery?.['msg'], more], ['usage database write recovered', []]);
    assert.ok(Number(recovery?.['failures']) >= 13);
    await close();
  });

  test('has lost records', async (context) => {
    const directory = await scratch(context);
    const database = join(directory, 'usage.sqlite');
    const { usage, recorder, log, close } = await open(context, { databasePath: database });
    recorder.record(RECORD);
    rmSync(directory, { recursive: true });
    // Its time limit passes at once.
    let nowMs = 0;
    context.mock.method(performance, 'now', () => (nowMs += 10_000));
    await close();
    assert.deepEqual(log.at(-1), {
      level: 'error',
      event: 'usage_records_dropped',
      count: 1,
      msg: 'usage records dropped',
    });
    assert.deepEqual(usage.databaseRecords, { written: 0, dropped: 1 });
  });

  test('has deleted records', async (context) => {
    const databasePath = join(await scratch(context), 'usage.sqlite');
    createUsageFile(databasePath, { rows: 3 });
    let nowMs = 0;
    context.mock.method(performance, 'now', () => nowMs);
    const { log, close } = await open(context, { databasePath, retentionMs: 1000 });
    nowMs = 60_000;
    await until(() => log.length > 0);
    const msg = 'deleted usage records older than RELAY_USAGE_RETENTION';
    assert.deepEqual(log, [{ level: 'info', event: 'usage_records_deleted', count: 3, msg }]);
    await close();
  });

  test('has the reason for a rollback journal', async (context) => {
    const databasePath = join(await scratch(context), 'usage.sqlite');
    // SQLite can't share the memory of a pipe.
    execFileSync('mkfifo', [`${databasePath}-shm`]);
    const { log, close } = await open(context, { databasePath });
    assert.equal(log.length, 1);
    assert.match(
      String(log[0]?.['msg']),
      /^usage database has no write-ahead log: its file system does not/u,
    );
    await close();
  });
});
