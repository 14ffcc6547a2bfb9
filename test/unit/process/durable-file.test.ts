import assert from 'node:assert/strict';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fsyncPath, fsyncPathSync, writeDurably } from '../../../src/process/durable-file.ts';
import { scratch } from '../../support/scratch.ts';

test('a file that is written durably has its text and mode, regardless of the umask', async (context) => {
  const directory = await scratch(context);
  const umask = process.umask(0o077);
  context.after(() => process.umask(umask));
  for (const [name, mode, expected] of [
    ['default', null, 0o600],
    ['public', 0o644, 0o644],
    ['private', 0o400, 0o400],
  ] as const) {
    const path = join(directory, name);
    await writeDurably(path, 'some text\n', mode);
    assert.equal(await readFile(path, 'utf8'), 'some text\n');
    assert.equal((await stat(path)).mode & 0o777, expected);
  }
});

test('an existing file is not overwritten', async (context) => {
  const path = join(await scratch(context), 'file');
  await writeDurably(path, 'old');
  await assert.rejects(writeDurably(path, 'new'), { code: 'EEXIST' });
  assert.equal(await readFile(path, 'utf8'), 'old');
});

test('files and directories can be flushed, and missing ones are an error', async (context) => {
  const directory = await scratch(context);
  const path = join(directory, 'file');
  await writeDurably(path, 'text');
  for (const existing of [path, directory]) {
    await fsyncPath(existing);
    fsyncPathSync(existing);
  }
  await assert.rejects(fsyncPath(join(directory, 'missing')), { code: 'ENOENT' });
  assert.throws(() => fsyncPathSync(join(directory, 'missing')), { code: 'ENOENT' });
});
