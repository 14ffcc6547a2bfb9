import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  closeSync,
  copyFileSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { CONDITION_TIMEOUT_MS, Program, findProgram } from '../support/programs.ts';
import { scratch } from '../support/scratch.ts';
import { createUsageFile, readUsageSum } from '../support/usage-files.ts';
import { RelayUnderTest, client, range, injectFault, relayPairs } from './relay-under-test.ts';
import { assertIntact, assertWritten, sizesIn } from './usage-check.ts';

/**
 * Longer than the relay's wait for a lock (1 s) and its first three retry delays (0.1, 0.5 and 1 s) together,
 * in milliseconds.
 */
const LOCKED_MS = 6000;

const FAILED = /usage database write failed; will retry/u;
const RECOVERED = /usage database write recovered/u;

class ReadonlyDatabase implements Disposable {
  readonly handle: Database.Database;

  constructor(path: string) {
    this.handle = new Database(path, { readonly: true });
  }

  [Symbol.dispose](): void {
    this.handle.close();
  }
}

/** A client that connects and disconnects. */
async function connectAndClose(port: number): Promise<void> {
  const socket = await client(port, '');
  socket.end();
  await once(socket.resume(), 'close');
}

/** Overwrites a file with garbage, except for its first page and its last few. */
function overwriteMiddle(path: string): void {
  const file = openSync(path, 'r+');
  try {
    const length = statSync(path).size - 4 * 4096;
    writeSync(file, Buffer.alloc(length - 4096, 0x55), 0, length - 4096, 4096);
  } finally {
    closeSync(file);
  }
}

describe('the usage database of a running relay', { concurrency: 3 }, () => {
  test('records wait for a database that another process has locked', async (context) => {
    if (findProgram('sqlite3') === null) {
      context.skip('needs sqlite3: apt-get install sqlite3');
      return;
    }
    const path = join(await scratch(context), 'usage.sqlite');
    await using relay = await RelayUnderTest.start({ RELAY_USAGE_DB: path });
    await relayPairs(relay.port, range(1, 5));
    const bystanders = await injectFault(context, relay, 'database locked', async () => {
      await using other = new Program([
        'sqlite3',
        '-cmd',
        'BEGIN EXCLUSIVE',
        '-cmd',
        "SELECT 'lock' || 'ed'",
        path,
      ]);
      await other.waitForOutput(/locked/u);
      await relayPairs(relay.port, range(6, 60));
      await relay.waitForLog(FAILED);
      await sleep(LOCKED_MS);
      assert.doesNotMatch(relay.log, RECOVERED);
      other.endInput();
      await other.succeeds(CONDITION_TIMEOUT_MS);
      await relay.waitForLog(RECOVERED);
    });
    await assertWritten(path, [...range(1, 60), ...bystanders]);
    // One log line, not one for each attempt.
    assert.equal(relay.count(FAILED), 1);
    assert.match(relay.log, /"code":"SQLITE_BUSY","failures":1/u);
    await relay.stop();
  });

  for (const files of [
    ['usage.sqlite'],
    ['usage.sqlite', 'usage.sqlite-wal', 'usage.sqlite-shm'],
    ['usage.sqlite-wal'],
  ]) {
    test(`records continue when ${files.join(', ')} are deleted`, async (context) => {
      const directory = await scratch(context);
      const path = join(directory, 'usage.sqlite');
      await using relay = await RelayUnderTest.start({ RELAY_USAGE_DB: path });
      await relayPairs(relay.port, range(1, 20));
      await assertWritten(path, range(1, 20));
      const bystanders = await injectFault(context, relay, `${files.join(' + ')} deleted`, async () => {
        for (const name of files) rmSync(join(directory, name));
        await relayPairs(relay.port, range(21, 60));
        await assertWritten(path, files.includes('usage.sqlite') ? range(21, 60) : range(1, 60));
      });
      await assertWritten(path, [...range(files.includes('usage.sqlite') ? 21 : 1, 60), ...bystanders]);
      await relay.stop();
      assertIntact(path);
    });
  }

  test('a database that replaces another one is continued, and the removed one is intact', async (context) => {
    const directory = await scratch(context);
    const [path, removed, other] = ['usage', 'removed', 'other'].map((name) =>
      join(directory, `${name}.sqlite`),
    );
    assert.ok(path !== undefined && removed !== undefined && other !== undefined);
    createUsageFile(other, { rows: 3000 });
    await using relay = await RelayUnderTest.start({ RELAY_USAGE_DB: path });
    await relayPairs(relay.port, range(1, 20));
    await assertWritten(path, range(1, 20));
    const bystanders = await injectFault(context, relay, 'database replaced', async () => {
      renameSync(path, removed);
      // SQLite's files beside it stay; they belong to the removed database.
      renameSync(other, path);
      await relayPairs(relay.port, range(21, 60));
      await assertWritten(path, range(21, 60));
    });
    await assertWritten(path, [...range(21, 60), ...bystanders]);
    await relay.stop();
    assertIntact(path);
    using database = new ReadonlyDatabase(path);
    assert.equal(readUsageSum(database.handle).rows, 3000 + 40 + bystanders.length);
    assertIntact(removed);
    assert.deepEqual(sizesIn(removed), range(1, 20));
  });

  test('a database of another program is not changed, and records wait until it is removed', async (context) => {
    const directory = await scratch(context);
    const path = join(directory, 'usage.sqlite');
    const songs = join(directory, 'songs.sqlite');
    const made = new Database(songs);
    made.exec("CREATE TABLE usage (title TEXT); INSERT INTO usage VALUES ('one')");
    made.close();
    await using relay = await RelayUnderTest.start({ RELAY_USAGE_DB: path });
    await relayPairs(relay.port, range(1, 5));
    await assertWritten(path, range(1, 5));
    const bystanders = await injectFault(context, relay, 'database replaced by a foreign one', async () => {
      const before = readFileSync(songs);
      renameSync(path, join(directory, 'removed.sqlite'));
      copyFileSync(songs, path);
      await relayPairs(relay.port, range(6, 30));
      await relay.waitForLog(FAILED);
      assert.match(relay.log, /"code":"it is a database, but not of a transit relay"/u);
      assert.ok(readFileSync(path).equals(before));
      renameSync(join(directory, 'removed.sqlite'), path);
      await relay.waitForLog(RECOVERED);
    });
    await assertWritten(path, [...range(1, 30), ...bystanders]);
    await relay.stop();
  });

  test('a database that is overwritten in the middle is reported, and records wait for an intact one', async (context) => {
    const directory = await scratch(context);
    const path = join(directory, 'usage.sqlite');
    createUsageFile(path, { rows: 20_000 });
    await using relay = await RelayUnderTest.start({ RELAY_USAGE_DB: path });
    await relayPairs(relay.port, range(1, 5));
    await assertWritten(path, range(1, 5));
    const bystanders = await injectFault(context, relay, 'database corrupted', async () => {
      overwriteMiddle(path);
      // There was no `empty` record before: its position in an index is on a page that has not been read yet.
      await connectAndClose(relay.port);
      await relay.waitForLog(FAILED);
      assert.match(relay.log, /"code":"the file is corrupt"/u);
      await relayPairs(relay.port, range(6, 30));
      for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true });
      await relay.waitForLog(RECOVERED);
    });
    await assertWritten(path, [...range(6, 30), ...bystanders]);
    await relay.stop();
    using database = new ReadonlyDatabase(path);
    assert.deepEqual(
      database.handle.prepare("SELECT count(*) AS n FROM usage WHERE result = 'empty'").all(),
      [{ n: 1 }],
    );
  });
});
