import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { UsageDatabase } from '../../../src/usage/usage-database.ts';
import { fatalReasons } from '../../support/programs.ts';
import { publicCheckout } from '../../support/public-checkout.ts';
import { scratch } from '../../support/scratch.ts';
import { createUsageFile, requireMount, mountReadOnly } from '../../support/usage-files.ts';

/** A uid without an entry in passwd and without a home directory. */
const UID = 54_321;

/** Another uid without an entry in passwd. */
const OTHER_UID = 54_322;

const ANY_PORT = 'tcp:0:interface=127.0.0.1';

/** Why this test can't run as another user; false if it can. */
const skip = process.getuid?.() === 0 ? false : 'needs root, who may be any user: run it with sudo';

interface Ended {
  readonly code: number | null;
  /** Why the relay did not start; empty if it did. */
  readonly reasons: readonly string[];
}

/** Runs the relay as `uid` with this database until it exits. If it starts, it is stopped. */
function startAs(uid: number, path: string): Promise<Ended> {
  const checkout = publicCheckout();
  return new Promise((resolve) => {
    const env = { RELAY_LISTEN: ANY_PORT, RELAY_STATUS_LISTEN: ANY_PORT, RELAY_USAGE_DB: path };
    const child = execFile(
      checkout.node,
      [checkout.pathOf('main.ts')],
      { uid, gid: uid, env, cwd: '/', encoding: 'utf8' },
      (error, stdout) =>
        resolve({
          code: error === null ? 0 : toCode(error.code),
          reasons: error === null ? [] : fatalReasons(stdout),
        }),
    );
    child.stdout?.on('data', (text: string) => {
      // The status port is logged last, shortly before signals are handled.
      if (text.includes('"role":"status"')) child.kill('SIGTERM');
    });
  });
}

function toCode(code: unknown): number | null {
  return typeof code === 'number' ? code : null;
}

/** A directory of this user below a directory that all users can access. */
async function dataDirectory(context: TestContext, uid: number): Promise<string> {
  const directory = await scratch(context);
  chmodSync(directory, 0o755);
  const path = join(directory, 'data');
  mkdirSync(path, { mode: 0o755 });
  chownSync(path, uid, uid);
  return path;
}

const advice = (what: string, owner: number): string =>
  `"${what}" belongs to user ${owner}, but this process runs as user ${UID}; ` +
  `run "chown -R ${UID} DIR" with the directory on the host, or start as user ${owner}`;

describe('the relay as a user without an entry in passwd', { skip }, () => {
  test('creates the database in a writable directory', async (context) => {
    const path = join(await dataDirectory(context, UID), 'usage.sqlite');
    assert.deepEqual(await startAs(UID, path), { code: 0, reasons: [] });
    assert.deepEqual([statSync(path).uid, statSync(path).size > 0], [UID, true]);
  });

  test('continues a database of its own', async (context) => {
    const directory = await dataDirectory(context, UID);
    const path = join(directory, 'usage.sqlite');
    createUsageFile(path);
    chownSync(path, UID, UID);
    assert.deepEqual(await startAs(UID, path), { code: 0, reasons: [] });
  });

  test('names the owner of an unwritable directory', async (context) => {
    const directory = await dataDirectory(context, OTHER_UID);
    const path = join(directory, 'usage.sqlite');
    assert.deepEqual(await startAs(UID, path), {
      code: 1,
      reasons: [`can't use "${path}" as the usage database: ${advice(directory, OTHER_UID)}`],
    });
  });

  test('names the owner of an unwritable database', async (context) => {
    const path = join(await dataDirectory(context, UID), 'usage.sqlite');
    createUsageFile(path);
    assert.deepEqual(await startAs(UID, path), {
      code: 1,
      reasons: [`can't use "${path}" as the usage database: ${advice(path, 0)}`],
    });
  });

  test('names the owner of the directory if only the database is its own', async (context) => {
    const directory = await dataDirectory(context, OTHER_UID);
    const path = join(directory, 'usage.sqlite');
    createUsageFile(path);
    chownSync(path, UID, UID);
    const { code, reasons } = await startAs(UID, path);
    assert.equal(code, 1);
    assert.deepEqual(reasons, [`can't use "${path}" as the usage database: ${advice(directory, OTHER_UID)}`]);
  });

  test('names the owner of unwritable files beside the database', async (context) => {
    const path = join(await dataDirectory(context, UID), 'usage.sqlite');
    createUsageFile(path);
    chownSync(path, UID, UID);
    writeFileSync(`${path}-wal`, '');
    writeFileSync(`${path}-shm`, '');
    const { code, reasons } = await startAs(UID, path);
    assert.equal(code, 1);
    assert.deepEqual(reasons, [`can't use "${path}" as the usage database: ${advice(`${path}-wal`, 0)}`]);
  });

  test('does not name another user if only a permission is missing', async (context) => {
    const directory = await dataDirectory(context, UID);
    chmodSync(directory, 0o555);
    const { code, reasons } = await startAs(UID, join(directory, 'usage.sqlite'));
    assert.equal(code, 1);
    assert.match(reasons.join(), /: this process may not write ".*data"; check its permissions$/u);
  });

  test('names a directory without search permission instead of calling it missing', async (context) => {
    const directory = await dataDirectory(context, UID);
    const closed = dirname(directory);
    chmodSync(closed, 0o700);
    const { code, reasons } = await startAs(UID, join(directory, 'usage.sqlite'));
    assert.equal(code, 1);
    assert.ok(
      reasons
        .join()
        .includes(`this process may not access "${closed}"; give user ${UID} access to that directory,`),
      reasons.join(),
    );
  });
});

test('a read-only file system is reported, also to root', async (context) => {
  if (!requireMount(context)) return;
  const directory = await scratch(context);
  createUsageFile(join(directory, 'usage.sqlite'));
  const mounted = mountReadOnly(context, directory);
  for (const name of ['usage.sqlite', 'new.sqlite']) {
    const response = new UsageDatabase(join(mounted, name)).handle({ kind: 'open' });
    assert.ok(response.kind === 'unusable', JSON.stringify(response));
    assert.match(response.reason, /^".*" is on a file system that is mounted read-only$/u);
  }
});
