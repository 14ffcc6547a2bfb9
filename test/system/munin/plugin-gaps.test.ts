import { deepEqual, match } from 'node:assert/strict';
import { chmodSync, chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import Database from 'better-sqlite3';
import { deleteRecords } from '../../../src/usage/retention.ts';
import { MuninNode, withoutMunin } from './munin-node.ts';
import { RelayProcess, UsageReader } from '../../support/relay-process.ts';
import { scratch, until } from '../../support/scratch.ts';
import { createUsageFile } from '../../support/usage-files.ts';
import { runClients } from './clients.ts';
import { MOODS, UNKNOWN, filesBeside, newPath, startMunin, zeros } from './scene.ts';

/** Creates a database without a write-ahead log, which needs no running relay, with a row `current` of that age in seconds. */
function createDatabase(path: string, age: number): void {
  createUsageFile(path, { rows: 3, journalMode: 'delete' });
  const database = new Database(path);
  const now = Date.now() / 1000;
  database.prepare('INSERT INTO current VALUES (?, ?, 4, 1, 10)').run(now - 1000, now - age);
  database.close();
}

describe('the Munin plugin', { skip: withoutMunin() }, () => {
  test('works only for users with read access, also after the relay was killed', async (context) => {
    if (process.getuid?.() !== 0) {
      context.skip('needs root: run it with sudo');
      return;
    }
    const directory = await scratch(context);
    // Files get the group of the directory, as they get the group of the relay with the systemd unit.
    chmodSync(directory, 0o755);
    const volume = join(directory, 'volume');
    mkdirSync(volume);
    chownSync(volume, 0, 1);
    chmodSync(volume, 0o2750);
    const path = join(volume, 'usage.sqlite');
    await using relay = await RelayProcess.start({ RELAY_USAGE_DB: path }, [
      'sh',
      '-c',
      'umask 027; exec "$@"',
      'sh',
    ]);
    await runClients(relay.port('raw'), ['errory', 'errory']);
    using reader = new UsageReader(path);
    await until(() => reader.rows().length === 2);
    const expected = { ...zeros(MOODS), errory: '2' };
    const inGroup = await MuninNode.start(context, ['user 65534', 'group 1', `env.usagedb ${path}`]);
    const outsideGroup = await MuninNode.start(context, ['user 65534', 'group 65534', `env.usagedb ${path}`]);
    deepEqual(await inGroup.fetch('events'), expected);
    deepEqual(await outsideGroup.fetchAll(), UNKNOWN);
    match(outsideGroup.log, /does not exist, or user 65534 cannot read it/u);
    reader[Symbol.dispose]();
    relay.kill('SIGKILL');
    await relay.ended().catch(() => undefined);
    const remaining = filesBeside(path);
    // A reader with write access could clear the log.
    const owner = await startMunin(context, path);
    for (const node of [inGroup, owner]) {
      deepEqual(await node.fetch('events'), expected);
      deepEqual(filesBeside(path), remaining);
    }
  });

  test('has values if `current` is fresh, and none if it is stale', async (context) => {
    const fresh = await newPath(context);
    createDatabase(fresh, 280);
    deepEqual(await (await startMunin(context, fresh)).fetchAll(), {
      active: { waiting: '1', connected: '4' },
      bytes: { bytes: '0', incomplete: '10' },
      bytes_alltime: { bytes: '6', incomplete: '16' },
      events: zeros(MOODS),
      events_alltime: { ...zeros(MOODS), happy: '3' },
    });
    const stale = await newPath(context);
    createDatabase(stale, 301);
    const node = await startMunin(context, stale);
    deepEqual(await node.fetchAll(), UNKNOWN);
    match(node.log, /no relay has written to .* for more than 5 minutes/u);
  });

  test('adds deleted records only to graphs of all time', async (context) => {
    const path = await newPath(context);
    createDatabase(path, 0);
    const database = new Database(path);
    deleteRecords(database, 1_600_000_002);
    database.close();
    deepEqual(await (await startMunin(context, path)).fetchAll(), {
      active: { waiting: '1', connected: '4' },
      bytes: { bytes: '0', incomplete: '10' },
      bytes_alltime: { bytes: '6', incomplete: '16' },
      events: zeros(MOODS),
      events_alltime: { ...zeros(MOODS), happy: '3' },
    });
  });

  test('has no values while another program locks a database without a write-ahead log', async (context) => {
    const path = await newPath(context);
    createDatabase(path, 0);
    const node = await startMunin(context, path);
    const writer = new Database(path);
    context.after(() => writer.close());
    writer.exec('BEGIN EXCLUSIVE');
    deepEqual(await node.fetch('active'), UNKNOWN['active']);
    match(node.log, /database is locked/u);
    writer.exec('COMMIT');
    deepEqual(await node.fetch('active'), { waiting: '1', connected: '4' });
  });

  const unusable: readonly (readonly [what: string, make: (path: string) => void, reason: RegExp])[] = [
    ['a missing database', () => undefined, /does not exist/u],
    ['a directory', (path) => mkdirSync(path), /does not exist/u],
    [
      'a database that a relay has closed',
      (path) => createUsageFile(path),
      /no relay has the database open/u,
    ],
    [
      'a database with only a log, left by a crash of the host',
      (path) => {
        createUsageFile(path);
        writeFileSync(`${path}-wal`, '');
      },
      /no relay has the database open/u,
    ],
    ['an empty file', (path) => writeFileSync(path, ''), /is not the database of a relay/u],
    ['garbage', (path) => writeFileSync(path, 'garbage '.repeat(999)), /is not a database/u],
    [
      'a database without its row `current`',
      (path) => createUsageFile(path, { journalMode: 'delete' }),
      /no relay has written/u,
    ],
  ];
  for (const [what, make, reason] of unusable) {
    test(`has no values for ${what}, reports the reason, and changes no files`, async (context) => {
      const path = await newPath(context);
      make(path);
      const before = filesBeside(path);
      const node = await startMunin(context, path);
      deepEqual(await node.fetchAll(), UNKNOWN);
      match(node.log, reason);
      deepEqual(filesBeside(path), before);
    });
  }

  test('runs no program that a database names', async (context) => {
    const path = await newPath(context);
    createDatabase(path, 0);
    const ran = join(path, '..', 'ran');
    const database = new Database(path);
    // The program sqlite3 has this function. Its second argument is a shell command.
    database.exec(`ALTER TABLE current RENAME TO original;
      CREATE VIEW current AS
      SELECT rowid, rebooted, updated, connected, incomplete_bytes, edit('', 'touch ${ran};:') AS waiting FROM original`);
    database.close();
    const node = await startMunin(context, path);
    deepEqual(await node.fetch('active'), UNKNOWN['active']);
    match(node.log, /is not the database of a relay/u);
    deepEqual(existsSync(ran), false);
  });

  test('does not read views and generated columns, which could run forever', async (context) => {
    const path = await newPath(context);
    createDatabase(path, 0);
    const database = new Database(path);
    database.exec(`ALTER TABLE usage RENAME TO original;
      CREATE VIEW usage AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
      SELECT i AS started, 1 AS total_time, 1 AS waiting_time, 1 AS total_bytes, 'happy' AS result FROM n`);
    const node = await startMunin(context, path);
    deepEqual(await node.fetchAll(), UNKNOWN);
    match(node.log, /is not the database of a relay/u);
    database.exec(`DROP VIEW usage;
      CREATE TABLE usage (started, total_time, waiting_time, total_bytes, result AS (hex(zeroblob(1000))))`);
    database.close();
    deepEqual(await node.fetchAll(), UNKNOWN);
  });

  test('reports invalid settings and missing programs', async (context) => {
    const path = await newPath(context);
    createDatabase(path, 0);
    const cases: readonly (readonly [usagedb: string, setting: string, reason: RegExp])[] = [
      ['usage.sqlite', 'env.any thing', /does not begin with \//u],
      [path, 'env.PATH /nonexistent', /install the package sqlite3/u],
    ];
    for (const [usagedb, setting, reason] of cases) {
      const node = await startMunin(context, usagedb, setting);
      deepEqual(await node.fetch('active'), UNKNOWN['active']);
      match(node.log, reason);
    }
    const unset = await MuninNode.start(context, [`env.any thing`]);
    deepEqual(await unset.fetch('active'), UNKNOWN['active']);
    match(unset.log, /env\.usagedb is not set/u);
  });
});
