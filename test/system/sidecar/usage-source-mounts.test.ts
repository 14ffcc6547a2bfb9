import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { UsageSource } from '../../../src/sidecar/usage/usage-source.ts';
import { publicCheckout } from '../../support/public-checkout.ts';
import { Program, findProgram } from '../../support/programs.ts';
import {
  createUsageFile,
  killWriter,
  requireMount,
  mountReadOnly,
  mountTmpfs,
  startWriter,
  stopWriter,
} from '../../support/usage-files.ts';
import type { UsageSum } from '../../support/usage-files.ts';
import {
  assertWholeTransactions,
  createUsageFixture,
  openAndSum,
  fileMetadata,
} from '../../support/usage-fixture.ts';
import type { UsageFixture } from '../../support/usage-fixture.ts';

/** Reads as this user. Returns the sum, or the error message. */
async function readAs(user: number, source: UsageSource): Promise<unknown> {
  const checkout = publicCheckout();
  const url = checkout.urlOf('sidecar/usage/usage-source.ts');
  const program = `
    import { openUsageDatabase } from ${JSON.stringify(url)};
    try {
      const opened = openUsageDatabase(${JSON.stringify(source)});
      console.log(JSON.stringify(opened.database.prepare('SELECT count(*) AS rows, total(total_bytes) AS bytes FROM usage').get()));
      opened.database.close();
    } catch (error) { console.log(JSON.stringify(error.message)); }`;
  const ids = [`--reuid=${user}`, `--regid=${user}`, '--clear-groups'];
  const reader = new Program(['setpriv', ...ids, checkout.node, '--input-type=module', '--eval', program]);
  await reader.succeeds(20_000);
  return JSON.parse(reader.stdout);
}

const NOBODY = 65_534;

/** A fixture that user `nobody` can access, with a scratch directory of that user. */
async function publicFixture(context: TestContext): Promise<UsageFixture> {
  const source = await createUsageFixture(context);
  chmodSync(join(source.volume, '..'), 0o755);
  mkdirSync(source.scratchDirectory);
  chownSync(source.scratchDirectory, NOBODY, NOBODY);
  return source;
}

function requireSetpriv(context: TestContext): boolean {
  if (process.getuid?.() === 0 && findProgram('setpriv') !== null) return true;
  context.skip('needs root and setpriv(1): run it with sudo');
  return false;
}

describe('a volume that is mounted read-only', () => {
  for (const who of ['the same user', 'another user'] as const) {
    test(`is read by ${who} while the writer runs, when it has stopped, and when it was killed`, async (context) => {
      if (!requireMount(context) || (who === 'another user' && !requireSetpriv(context))) return;
      const source = await publicFixture(context);
      const directory = mountReadOnly(context, source.volume);
      const mounted = { ...source, databasePath: join(directory, 'usage.sqlite') };
      const readIt = async (): Promise<void> => {
        const sum = who === 'another user' ? await readAs(NOBODY, mounted) : openAndSum(mounted);
        assertWholeTransactions(sumFrom(sum));
      };

      const writer = await startWriter(source.databasePath);
      await readIt();
      await stopWriter(writer);
      assert.deepEqual(readdirSync(source.volume), ['usage.sqlite']);
      await readIt();
      const killed = await startWriter(source.databasePath);
      await killWriter(killed);
      assert.equal(readdirSync(source.volume).length, 3);
      const before = fileMetadata(source.volume);
      await readIt();
      assert.deepEqual(fileMetadata(source.volume), before);
    });
  }
});

function sumFrom(value: unknown): UsageSum {
  assert.ok(
    typeof value === 'object' && value !== null && 'rows' in value && 'bytes' in value,
    String(value),
  );
  assert.ok(typeof value.rows === 'number' && typeof value.bytes === 'number');
  return { rows: value.rows, bytes: value.bytes };
}

test('a database is always readable while its relay restarts repeatedly', async (context) => {
  if (!requireMount(context)) return;
  const source = await createUsageFixture(context);
  const mounted = { ...source, databasePath: join(mountReadOnly(context, source.volume), 'usage.sqlite') };
  const program = `
    import { setTimeout as sleep } from 'node:timers/promises';
    import { UsageDatabase } from ${JSON.stringify(import.meta.resolve('../../../src/usage/usage-database.ts'))};
    const record = { started: 1700000000, total_time: 1, waiting_time: 1, total_bytes: 2, mood: 'happy' };
    const current = { rebooted: 1, updated: 1, connected: 0, waiting: 0, incomplete_bytes: 0 };
    for (;;) {
      const database = new UsageDatabase(${JSON.stringify(source.databasePath)});
      console.log(database.handle({ kind: 'write', records: [record, record, record], current }).kind);
      await sleep(30);
      database.handle({ kind: 'close' });
      await sleep(200);
    }`;
  await using writer = new Program([process.execPath, '--input-type=module', '--eval', program]);
  await writer.waitForOutput(/done/u);
  while (writer.stdout.split('done').length < 12) {
    assertWholeTransactions(openAndSum(mounted));
    // Lets the output of the writer arrive.
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.doesNotMatch(writer.stdout, /failed|unusable/u);
});

describe('another user', () => {
  test('without read permission gets the owner of the file', async (context) => {
    if (!requireSetpriv(context)) return;
    const source = await publicFixture(context);
    createUsageFile(source.databasePath);
    chmodSync(source.databasePath, 0o600);
    assert.match(
      String(await readAs(NOBODY, source)),
      /this user has no access to "[^"]*usage\.sqlite";.*, user 0$/u,
    );
    chmodSync(source.volume, 0o700);
    assert.match(String(await readAs(NOBODY, source)), /this user has no access to "[^"]*volume";/u);
  });

  test('with write permission for the directory leaves no files there', async (context) => {
    if (!requireSetpriv(context)) return;
    const source = await publicFixture(context);
    createUsageFile(source.databasePath);
    chmodSync(source.volume, 0o777);
    const before = fileMetadata(source.volume);
    assert.deepEqual(await readAs(NOBODY, source), { rows: 3, bytes: 6 });
    assert.deepEqual(fileMetadata(source.volume), before);
  });
});

test('a full scratch directory is an error with figures', async (context) => {
  if (!requireMount(context)) return;
  const source = { ...(await createUsageFixture(context)), scratchDirectory: mountTmpfs(context, 'size=8m') };
  createUsageFile(source.databasePath);
  assert.throws(() => openAndSum(source), /has 8\.4 MB free, .* takes 0\.0 MB and 67\.1 MB must stay free/u);
  assert.deepEqual(readdirSync(source.scratchDirectory), []);
});
