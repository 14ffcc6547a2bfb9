import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { readSecretFile } from '../../src/config/secret-file.ts';
import { scratch } from '../support/scratch.ts';

/** Maximum size of a value, in bytes. */
const MAX_FILE_BYTES = 65_536;

describe('the file of a variable', () => {
  test('is read completely, up to the size limit', async (context) => {
    const directory = await scratch(context);
    const path = join(directory, 'file');
    for (const text of ['', 'tcp:4001\n', 'ä€\n\n', 'x'.repeat(MAX_FILE_BYTES)]) {
      writeFileSync(path, text);
      assert.equal(readSecretFile(path), text);
    }
    // Like Kubernetes mounts secrets.
    symlinkSync(path, join(directory, 'link'));
    assert.equal(readSecretFile(join(directory, 'link')).length, MAX_FILE_BYTES);
  });

  test('that can not be read is rejected with a reason', async (context) => {
    const directory = await scratch(context);
    mkdirSync(join(directory, 'folder'));
    writeFileSync(join(directory, 'large'), 'x'.repeat(MAX_FILE_BYTES + 1));
    const cases: readonly (readonly [path: string, message: string])[] = [
      [join(directory, 'none'), 'there is no such file'],
      [join(directory, 'folder'), 'it is a directory'],
      [join(directory, 'large'), 'it is larger than 65536 bytes, the maximum for a value'],
      [join(directory, 'large', 'x'), "it can't be read (ENOTDIR)"],
      // It has no size and is endless.
      ['/dev/zero', 'it is larger than 65536 bytes, the maximum for a value'],
    ];
    for (const [path, message] of cases) assert.throws(() => readSecretFile(path), { message });
  });

  test('that belongs to another user is rejected with a reason', async (context) => {
    const directory = await scratch(context);
    const path = join(directory, 'secret');
    writeFileSync(path, 'hunter2');
    chmodSync(path, 0);
    if (process.getuid?.() !== 0) {
      assert.throws(() => readSecretFile(path), { message: 'permission denied' });
      return;
    }
    // Root can read everything. The module is loaded before the process changes to another user.
    chmodSync(directory, 0o755);
    const program = `
      const { readSecretFile } = await import(process.argv[1]);
      process.setuid(4242);
      try { readSecretFile(process.argv[2]); } catch (error) { process.stdout.write(error.message); }`;
    const module = new URL('../../src/config/secret-file.ts', import.meta.url).href;
    const said = execFileSync(process.execPath, ['--input-type=module', '-e', program, module, path]);
    assert.equal(String(said), 'permission denied');
  });
});
