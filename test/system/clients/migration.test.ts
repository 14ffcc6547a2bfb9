import { deepEqual, equal, ok } from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { pairAt, runClients } from '../munin/clients.ts';
import { ReferenceRelay, withoutReference } from '../../support/reference-relay.ts';
import { RelayProcess, UsageReader } from '../../support/relay-process.ts';
import type { UsageRow } from '../../support/relay-process.ts';
import { scratch, until } from '../../support/scratch.ts';
import { runWithReference } from '../../support/usage-files.ts';

/** One pair, and clients without a partner: the same for each relay. */
const RESULTS = ['errory', 'happy', 'lonely', 'lonely', 'redundant'];

/** Runs clients that connect and disconnect. Each causes a record. */
async function runAllClients(port: number, bytes: number): Promise<void> {
  const pair = await pairAt(port, 1);
  await pair.exchange(bytes);
  await pair.end();
  await runClients(port, ['errory', 'lonely', 'lonely']);
}

/** Waits until there are `count` records, and returns all. */
async function recordsOf(path: string, count: number): Promise<UsageRow[]> {
  using reader = new UsageReader(path);
  await until(() => reader.rows().length >= count);
  return reader.rows();
}

function resultsOf(rows: readonly UsageRow[]): string[] {
  return rows.map(({ result }) => result).toSorted((one, other) => (one < other ? -1 : 1));
}

test(
  'an operator of the reference can switch to this relay and back, with one file that keeps all records',
  { skip: withoutReference() },
  async (context) => {
    const path = join(await scratch(context), 'usage-transitrelay.sqlite');
    const each = RESULTS.length;
    const total = (rows: readonly UsageRow[]): number => rows.reduce((sum, row) => sum + row.total_bytes, 0);

    const reference = await ReferenceRelay.start(path);
    await runAllClients(reference.port, 1000);
    const theirs = await recordsOf(path, each);
    await reference[Symbol.asyncDispose]();
    deepEqual(resultsOf(theirs), RESULTS);

    const startedAt = Date.now() / 1000;
    const relay = await RelayProcess.start({ RELAY_USAGE_DB: path });
    await runAllClients(relay.port('raw'), 10_000);
    await relay.stop();
    const both = await recordsOf(path, 2 * each);
    deepEqual(both.slice(0, each), theirs);
    deepEqual(resultsOf(both.slice(each)), RESULTS);
    equal(total(both), 2000 + 20_000);
    ok(both.slice(each).every(({ started }) => started >= startedAt));
    {
      using reader = new UsageReader(path);
      const current = reader.current();
      ok(current !== null && current.rebooted >= startedAt && current.updated >= startedAt);
      deepEqual([current.connected, current.waiting, current.incomplete_bytes], [0, 0, 0]);
    }
    const read = runWithReference(
      context,
      `db = get_db(sys.argv[1])
print(db.execute("SELECT count(*) AS n FROM usage").fetchone()["n"],
      db.execute("SELECT count(*) AS n FROM current").fetchone()["n"],
      db.execute("SELECT version FROM version").fetchone()["version"])`,
      path,
    );
    equal(read?.trim(), `${2 * each} 1 1`);

    const again = await ReferenceRelay.start(path);
    await runAllClients(again.port, 100);
    const all = await recordsOf(path, 3 * each);
    await again[Symbol.asyncDispose]();
    deepEqual(all.slice(0, 2 * each), both);
    deepEqual(resultsOf(all.slice(2 * each)), RESULTS);
    equal(total(all), 2000 + 20_000 + 200);
  },
);
