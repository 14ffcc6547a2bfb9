import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import Database from 'better-sqlite3';
import { NO_TOTALS } from '../../../src/sidecar/usage/usage-totals.ts';
import { CachedCheck, SidecarMetrics } from '../../../src/sidecar/metrics.ts';
import { ask } from '../../support/ask.ts';
import { nonZero, parseMetrics, scrape, withoutMisnamed } from '../../support/metrics.ts';
import type { Figures } from '../../support/metrics.ts';
import { findProgram } from '../../support/programs.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { startSidecar, sampleRecords } from '../../support/sidecar-fixture.ts';
import { createUsageFile } from '../../support/usage-files.ts';
import { createUsageDatabase } from '../../support/usage-records.ts';

const PREFIX = 'transit_relay_';

/** All metrics in order. */
const SERIES = [
  'counter database_records_total{mood="happy"}',
  'counter database_records_total{mood="lonely"}',
  'counter database_records_total{mood="redundant"}',
  'counter database_records_total{mood="impatient"}',
  'counter database_records_total{mood="errory"}',
  'counter database_records_total{mood="empty"}',
  'counter database_records_total{mood="other"}',
  'counter database_relayed_bytes_total',
  'gauge database_up',
  'gauge database_size_bytes',
  'gauge snapshots',
  'gauge snapshot_timestamp_seconds',
  'gauge snapshot_age_seconds',
  'gauge snapshot_size_bytes',
  'gauge snapshot_records',
  'gauge snapshot_interval_seconds',
  'counter snapshots_taken_total',
  'counter snapshot_failures_total',
  'gauge check_ok{check="relay"}',
  'gauge check_ok{check="transfer"}',
  'gauge check_ok{check="snapshot"}',
  'gauge check_ok{check="database"}',
];

const promtool = findProgram('promtool');
const needsPromtool = promtool === null ? 'needs promtool: apt-get install prometheus' : false;

/** The series of a scrape with their types, without process metrics. */
function typedSeries(text: string): string[] {
  const types = new Map<string, string>();
  for (const [, name = '', type = ''] of text.matchAll(/^# TYPE (\S+) (\S+)$/gmu)) types.set(name, type);
  return [...parseMetrics(text).keys()]
    .filter((series) => series.startsWith(PREFIX) && !series.startsWith(`${PREFIX}sidecar_`))
    .map((series) => `${types.get(series.replace(/\{.*/u, ''))} ${series.slice(PREFIX.length)}`);
}

function figureOf(figures: Figures, series: string): number {
  const figure = figures.get(PREFIX + series);
  assert.ok(figure !== undefined, `series ${series} is missing`);
  return figure;
}

/**
 * Scrapes until `holds`. On a busy machine a check takes seconds, and its result is cached for ten times as
 * long.
 */
async function scrapeUntil(url: string, holds: (figures: Figures) => boolean): Promise<Figures> {
  const deadline = performance.now() + 120_000;
  for (;;) {
    const figures = await scrape(url);
    if (holds(figures)) return figures;
    assert.ok(performance.now() < deadline, `not within two minutes: ${holds.toString()}`);
    await sleep(100);
  }
}

function checksOf(figures: Figures): Readonly<Record<string, number>> {
  return nonZero(figures, `${PREFIX}check_ok`);
}

/**
 * Scrapes until this number of checks pass: on a busy machine they may finish after the timeout of a scrape.
 */
function scrapeUntilPassed(url: string, checks: number): Promise<Figures> {
  return scrapeUntil(url, (figures) => Object.keys(checksOf(figures)).length === checks);
}

async function startRelay(context: TestContext, databasePath: string): Promise<RelayProcess> {
  const relay = await RelayProcess.start({
    RELAY_USAGE_DB: databasePath,
    RELAY_STATUS_LISTEN: 'tcp:0:interface=127.0.0.1',
  });
  context.after(() => relay[Symbol.asyncDispose]());
  return relay;
}

describe('the metrics of the sidecar', () => {
  test('have all their series from the start, without relay and database', async (context) => {
    const { url, snapshots, sidecar } = await startSidecar(context, null, { SIDECAR_TOKKEN: 'x' });
    const text = (await ask(url, '/metrics')).body.toString();
    assert.deepEqual(typedSeries(text), SERIES);
    const figures = parseMetrics(text);
    assert.deepEqual(nonZero(figures, `${PREFIX}database`), {});
    assert.deepEqual(checksOf(figures), {});
    assert.equal(figureOf(figures, 'snapshot_interval_seconds'), 3600);
    const later = await scrapeUntil(url, (now) => figureOf(now, 'snapshot_failures_total') > 0);
    // There is no database, and the variable is unknown.
    assert.equal(figureOf(later, 'sidecar_warnings'), 2);
    assert.equal(figureOf(later, 'snapshots'), 0);
    assert.equal(figureOf(later, 'snapshot_timestamp_seconds'), 0);
    // As old as the sidecar, which has just started.
    assert.ok(figureOf(later, 'snapshot_age_seconds') > figureOf(figures, 'snapshot_age_seconds'));
    assert.ok(figureOf(figures, 'snapshot_age_seconds') > 0);
    assert.ok(figureOf(later, 'snapshot_age_seconds') < 60);
    for (const secret of [url, snapshots]) assert.ok(!text.includes(secret));
    // As a part of a longer number it may be there by chance.
    assert.doesNotMatch(text, new RegExp(`\\b${sidecar.pid}\\b`, 'u'));
    await sidecar.stop();
    assert.doesNotMatch(sidecar.log, /request failed/u);
  });

  test('have the state of the database and its snapshots', async (context) => {
    const moods = ['happy', 'lonely', 'errory', 'empty', 'whatever "} 1\n'];
    const records = sampleRecords(100).map((one, index) =>
      Object.assign(one, { result: moods[index % moods.length] ?? '' }),
    );
    const { url, databasePath, snapshots } = await startSidecar(context, records, {
      SIDECAR_SNAPSHOT_EVERY: '2h',
    });
    const figures = await scrapeUntilPassed(url, 2);
    assert.deepEqual(nonZero(figures, `${PREFIX}database_records_total`), {
      '{mood="happy"}': 20,
      '{mood="lonely"}': 20,
      '{mood="errory"}': 20,
      '{mood="empty"}': 20,
      '{mood="other"}': 20,
    });
    const bytes = records.reduce((sum, { total_bytes }) => sum + total_bytes, 0);
    assert.equal(figureOf(figures, 'database_relayed_bytes_total'), bytes);
    assert.equal(figureOf(figures, 'database_up'), 1);
    assert.equal(figureOf(figures, 'database_size_bytes'), statSync(databasePath).size);
    assert.deepEqual(checksOf(figures), { '{check="snapshot"}': 1, '{check="database"}': 1 });

    const [newest] = await listOf(url);
    assert.ok(newest !== undefined);
    assert.equal(figureOf(figures, 'snapshots'), 1);
    assert.equal(figureOf(figures, 'snapshot_timestamp_seconds'), Date.parse(newest.time) / 1000);
    assert.equal(figureOf(figures, 'snapshot_size_bytes'), statSync(join(snapshots, newest.name)).size);
    assert.equal(figureOf(figures, 'snapshot_records'), 100);
    assert.equal(figureOf(figures, 'snapshot_interval_seconds'), 7200);
    assert.equal(figureOf(figures, 'snapshots_taken_total'), 1);
    assert.equal(figureOf(figures, 'snapshot_failures_total'), 0);
    const age = figureOf(await scrape(url), 'snapshot_age_seconds');
    assert.ok(age >= 0 && age <= (Date.now() - Date.parse(newest.time)) / 1000, `${age} s old`);

    assert.equal((await ask(url, '/snapshots', { method: 'POST' })).status, 201);
    const then = await scrape(url);
    assert.equal(figureOf(then, 'snapshots'), 2);
    assert.equal(figureOf(then, 'snapshots_taken_total'), 2);
    assert.ok(figureOf(then, 'snapshot_timestamp_seconds') > Date.parse(newest.time) / 1000);
  });

  test('are served while a million records are counted, and include them afterwards', async (context) => {
    const { url, volume, databasePath, sidecar } = await startSidecar(context, null);
    const newDatabase = join(volume, '..', 'new.sqlite');
    createUsageFile(newDatabase, { rows: 1_000_000 });
    renameSync(newDatabase, databasePath);
    const happy = 'database_records_total{mood="happy"}';
    const first = await Promise.all(Array.from({ length: 30 }, () => scrape(url)));
    const seen = new Set(first.map((figures) => figureOf(figures, happy)));
    const figures = await scrapeUntil(url, (now) => {
      seen.add(figureOf(now, happy));
      return figureOf(now, happy) > 0;
    });
    // Partial sums are never reported: they would look like a sudden increase.
    assert.deepEqual(
      [...seen].filter((count) => count !== 0),
      [1_000_000],
    );
    assert.equal(figureOf(figures, 'database_relayed_bytes_total'), 1_999_999);
    assert.equal(figureOf(figures, 'database_up'), 1);
    assert.equal(sidecar.stderr, '');
  });

  test('show passed and failed checks', async (context) => {
    const directory = await scratch(context);
    const databasePath = join(directory, 'usage.sqlite');
    const relay = await startRelay(context, databasePath);
    const { url, sidecar, snapshots } = await startSidecar(context, null, {
      SIDECAR_USAGE_DB: databasePath,
      SIDECAR_RELAY_STATUS: `http://127.0.0.1:${relay.port('status')}`,
    });
    await sidecar.waitForLog(/"msg":"snapshot taken"/u);
    const all = { relay: 1, transfer: 1, snapshot: 1, database: 1 };
    const passed = await scrapeUntilPassed(url, 4);
    assert.deepEqual(checksOf(passed), inBraces(all));
    // It includes the log, which may have grown meanwhile.
    const logBytes = figureOf(passed, 'database_size_bytes') - statSync(databasePath).size;
    assert.ok(
      logBytes > 0 && logBytes <= statSync(`${databasePath}-wal`).size,
      `${logBytes} bytes of the log`,
    );
    await relay.stop();
    writeFileSync(databasePath, 'garbage '.repeat(1000));
    const [newest] = await listOf(url);
    assert.ok(newest !== undefined);
    writeFileSync(join(snapshots, newest.name), '');
    const failed = await scrapeUntil(url, (now) => Object.keys(checksOf(now)).length === 0);
    assert.equal(figureOf(failed, 'database_up'), 0);
    assert.equal(sidecar.stderr, '');
  });

  test('are served while the relay hangs and the database is locked', async (context) => {
    const directory = await scratch(context);
    const relay = await startRelay(context, join(directory, 'usage.sqlite'));
    process.kill(relay.pid, 'SIGSTOP');
    const volume = join(directory, 'other');
    mkdirSync(volume);
    const { databasePath } = createUsageDatabase(volume, sampleRecords(3));
    const writer = new Database(databasePath);
    context.after(() => writer.close());
    writer.exec('BEGIN EXCLUSIVE');
    const { url } = await startSidecar(context, null, {
      SIDECAR_USAGE_DB: databasePath,
      SIDECAR_RELAY_STATUS: `http://127.0.0.1:${relay.port('status')}`,
    });
    const figures = await scrape(url);
    process.kill(relay.pid, 'SIGCONT');
    await relay.stop();
    assert.deepEqual(checksOf(figures), {});
    assert.deepEqual(
      [figureOf(figures, 'database_up'), figureOf(figures, 'database_size_bytes')],
      [0, statSync(databasePath).size],
    );
  });

  test('are small when compressed', async (context) => {
    const { url } = await startSidecar(context, null);
    const { headers, body } = await ask(url, '/metrics', { headers: { 'accept-encoding': 'gzip' } });
    assert.equal(headers['content-encoding'], 'gzip');
    assert.deepEqual(typedSeries(gunzipSync(body).toString()), SERIES);
  });

  test('pass promtool', { skip: needsPromtool }, async (context) => {
    const { url } = await startSidecar(context, sampleRecords(10));
    const { body } = await ask(url, '/metrics');
    const { status, stdout, stderr } = spawnSync(promtool ?? '', ['check', 'metrics'], {
      input: withoutMisnamed(body.toString()),
      encoding: 'utf8',
    });
    assert.deepEqual([status, stdout, stderr], [0, '', '']);
  });
});

test('a scrape reports the previous result of a late check, and no negative age', async () => {
  let answer: Promise<boolean> = Promise.resolve(true);
  let nowMs = 0;
  const check = (run: () => Promise<boolean>): CachedCheck =>
    new CachedCheck(run, assert.ifError, () => nowMs);
  const never = new Promise<boolean>(() => undefined);
  const steady = check(() => Promise.resolve(true));
  let reads = 0;
  const metrics = new SidecarMetrics({
    checks: {
      relay: check(() => answer),
      transfer: check(() => never),
      snapshot: steady,
      database: steady,
    },
    totals: () => NO_TOTALS,
    databaseBytes: () => (reads += 1),
    snapshots: () => [FUTURE],
    snapshotCounts: () => ({ taken: 0, failed: 0 }),
    snapshotIntervalMs: 1000,
    warnings: () => 3,
  });
  const expected = inBraces({ relay: 1, snapshot: 1, database: 1 });
  const [first, same] = (await Promise.all([metrics.render(), metrics.render()])).map(parseMetrics);
  assert.ok(first !== undefined);
  assert.deepEqual([same, reads], [first, 1]);
  assert.deepEqual(checksOf(first), expected);
  assert.equal(figureOf(first, 'snapshot_age_seconds'), 0);
  assert.equal(figureOf(first, 'sidecar_warnings'), 3);
  answer = never;
  nowMs = 15_000;
  assert.deepEqual(checksOf(parseMetrics(await metrics.render())), expected);
});

/** Taken before the clock was set back. */
const FUTURE = { name: 'x', time: '2999-01-01T00:00:00.000Z', bytes: 1, sha256: '', rows: 1 };

interface ListedSnapshot {
  readonly name: string;
  readonly time: string;
}

/** The snapshots, newest first. */
async function listOf(url: string): Promise<readonly ListedSnapshot[]> {
  const { snapshots }: { snapshots: ListedSnapshot[] } = JSON.parse(
    (await ask(url, '/snapshots')).body.toString(),
  );
  return snapshots;
}

function inBraces(figures: Readonly<Record<string, number>>): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(figures).map(([check, figure]) => [`{check="${check}"}`, figure]));
}

/** A cached check whose clock and results the test controls. */
class ManualCheck {
  now = 5;
  runs = 0;
  readonly errors: unknown[] = [];
  readonly check: CachedCheck;
  #answer: (ok: boolean) => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;

  constructor() {
    this.check = new CachedCheck(
      () => {
        this.runs += 1;
        return new Promise((resolve, reject) => {
          this.#answer = resolve;
          this.#fail = reject;
        });
      },
      (error) => this.errors.push(error),
      () => this.now,
    );
  }

  /** Starts a refresh, and completes the check after this number of milliseconds. */
  async run(ok: boolean, tookMs = 0): Promise<void> {
    const refreshed = this.check.refresh();
    this.now += tookMs;
    this.#answer(ok);
    await refreshed;
  }

  async fail(error: Error): Promise<void> {
    const refreshed = this.check.refresh();
    this.#fail(error);
    await refreshed;
  }
}

describe('the cached result of a check', () => {
  test('is negative before the first run', () => {
    assert.equal(new ManualCheck().check.ok, false);
  });

  test('is cached for ten seconds, positive or negative', async () => {
    const manual = new ManualCheck();
    for (const ok of [true, false, true]) {
      const { runs } = manual;
      await manual.run(ok);
      assert.equal(manual.check.ok, ok);
      manual.now += 9999;
      await manual.check.refresh();
      assert.equal(manual.runs, runs + 1);
      manual.now += 1;
    }
    await manual.run(false);
    assert.equal(manual.runs, 4);
  });

  test('is cached for ten times its duration', async () => {
    const manual = new ManualCheck();
    await manual.run(true, 3000);
    manual.now += 29_999;
    await manual.check.refresh();
    assert.equal(manual.runs, 1);
    manual.now += 1;
    await manual.run(false);
    assert.equal(manual.runs, 2);
  });

  test('is shared by concurrent callers', async () => {
    const manual = new ManualCheck();
    const waiting = [manual.check.refresh(), manual.check.refresh()];
    manual.now += 20_000;
    waiting.push(manual.check.refresh());
    await manual.run(true);
    await Promise.all(waiting);
    assert.equal(manual.runs, 1);
  });

  test('stays valid during the next run, for at most a minute', async () => {
    const manual = new ManualCheck();
    await manual.run(true);
    manual.now += 10_000;
    const refreshed = manual.check.refresh();
    manual.now += 60_000;
    assert.equal(manual.check.ok, true);
    manual.now += 1;
    assert.equal(manual.check.ok, false);
    await manual.run(true);
    await refreshed;
    assert.equal(manual.check.ok, true);
  });

  test('is negative after an internal error, which is reported', async () => {
    const manual = new ManualCheck();
    await manual.run(true);
    manual.now += 10_000;
    const error = new Error('the check failed');
    await manual.fail(error);
    assert.equal(manual.check.ok, false);
    assert.deepEqual(manual.errors, [error]);
    manual.now += 10_000;
    await manual.run(true);
    assert.equal(manual.check.ok, true);
  });
});
