import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { CONDITION_TIMEOUT_MS, Program, findProgram } from '../../support/programs.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { SUM_QUERY, createUsageFile } from '../../support/usage-files.ts';

const FILTER = join(import.meta.dirname, '..', '..', 'support', 'seccomp.py');
const DATABASE = import.meta.resolve('../../../src/usage/usage-database.ts');

/** A system call filter simulates the file system: it causes the errors of CIFS, NFS and FUSE. */
const skip =
  findProgram('python3') === null || !hasLibseccomp()
    ? 'needs python3 and libseccomp: apt-get install libseccomp2'
    : false;

function hasLibseccomp(): boolean {
  return ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64'].some((directory) => {
    try {
      return readdirSync(directory).includes('libseccomp.so.2');
    } catch {
      return false;
    }
  });
}

/**
 * The responses to `open`, to this number of writes of one record, and to `close`, in a process without the
 * feature `lacking`.
 */
async function responses(path: string, lacking: 'locks' | 'memory', writes: number): Promise<unknown> {
  const program = `
    import { UsageDatabase } from ${JSON.stringify(DATABASE)};
    const database = new UsageDatabase(${JSON.stringify(path)});
    const record = { started: 1, total_time: 1, waiting_time: 1, total_bytes: 1, mood: 'happy' };
    const current = { rebooted: 1, updated: 1, connected: 0, waiting: 0, incomplete_bytes: 0 };
    const requests = [{ kind: 'open' }, ...Array(${writes}).fill({ kind: 'write', records: [record], current }), { kind: 'close' }];
    console.log(JSON.stringify(requests.map((request) => database.handle(request))));`;
  await using child = new Program([
    'python3',
    FILTER,
    lacking,
    '--',
    process.execPath,
    '--input-type=module',
    '--eval',
    program,
  ]);
  await child.succeeds(CONDITION_TIMEOUT_MS);
  return JSON.parse(child.stdout);
}

function sum(path: string): unknown {
  const database = new Database(path, { readonly: true });
  try {
    return database.prepare(SUM_QUERY).get();
  } finally {
    database.close();
  }
}

const DONE = { kind: 'done' };

describe('a file system without shared memory', { skip }, () => {
  test('gets a new database with a rollback journal', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    assert.deepEqual(await responses(path, 'memory', 2), [
      { kind: 'done', notices: [{ kind: 'rollback journal' }] },
      DONE,
      DONE,
      DONE,
    ]);
    assert.deepEqual(sum(path), { rows: 2, bytes: 2 });
  });

  test('opens a database with a write-ahead log and all its records', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    createUsageFile(path, { rows: 3, journalMode: 'wal' });
    assert.deepEqual(await responses(path, 'memory', 1), [
      { kind: 'done', notices: [{ kind: 'rollback journal' }] },
      DONE,
      DONE,
    ]);
    assert.deepEqual(sum(path), { rows: 4, bytes: 7 });
  });
});

test(
  'a file system without locks is named as the cause, and nothing stays of the attempt',
  { skip },
  async (context) => {
    const directory = await scratch(context);
    const path = join(directory, 'usage.sqlite');
    const failed = {
      kind: 'failed',
      code: 'SQLITE_BUSY',
      reason:
        'the file system does not support file locks: mount it with locks (CIFS: nobrl, NFS: local_lock=all), or keep the database on a local disk',
    };
    assert.deepEqual(await responses(path, 'locks', 1), [failed, failed, DONE]);
    assert.deepEqual(
      readdirSync(directory).filter((name) => name.includes('lock-test')),
      [],
    );
  },
);

describe('the log of a relay', { skip }, () => {
  const start = async (context: TestContext, lacking: 'locks' | 'memory'): Promise<RelayProcess> => {
    const path = join(await scratch(context), 'usage.sqlite');
    const relay = await RelayProcess.start({ RELAY_USAGE_DB: path }, ['python3', FILTER, lacking, '--']);
    context.after(() => relay[Symbol.asyncDispose]());
    return relay;
  };

  test('names the reason for delayed records', async (context) => {
    const relay = await start(context, 'locks');
    await relay.waitForLog(
      /"level":"warn".*"code":"SQLITE_BUSY".*"reason":"the file system does not support file locks: /u,
    );
  });

  test('warns about a rollback journal', async (context) => {
    const relay = await start(context, 'memory');
    await relay.waitForLog(/"level":"warn".*usage database has no write-ahead log: .* shared memory/u);
    await relay.stop();
    assert.doesNotMatch(relay.log, /write failed/u);
  });
});
