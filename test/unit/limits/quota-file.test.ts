import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { QuotaFile, QuotaFileError, loadQuota } from '../../../src/limits/quota-file.ts';
import type { SavedQuota } from '../../../src/limits/quota.ts';
import { Dice } from '../../support/dice.ts';
import { scratch } from '../../support/scratch.ts';

const FILE_MODULE = new URL('../../../src/limits/quota-file.ts', import.meta.url).href;

/**
 * Counts up in a file as fast as it can, and prints each count. The prints are synchronous: `console.log` would keep them
 * in memory, and lose them with the process, while this process does not read.
 */
const WRITER = `
import { writeSync } from 'node:fs';
import { QuotaFile, loadQuota } from ${JSON.stringify(FILE_MODULE)};
const path = process.argv[1];
const file = new QuotaFile(path, (code) => { throw new Error(code); }, () => undefined);
let relayedBytes = loadQuota(path)?.relayedBytes ?? 0;
for (;;) {
  relayedBytes += 1;
  await file.save({ day: '2026-03-10', period: 'month', relayedBytes });
  writeSync(1, relayedBytes + '\\n');
}
`;

function used(relayedBytes: number): SavedQuota {
  return { day: '2026-03-10', period: 'month', relayedBytes };
}

function noFailure(code: string): never {
  throw new Error(`not saved: ${code}`);
}

function noRecovery(): never {
  throw new Error('no save has failed');
}

describe('a quota file', () => {
  test('loads as null before the first save, and then as the saved state', async (context) => {
    const path = join(await scratch(context), 'quota.json');
    assert.equal(loadQuota(path), null);
    const file = new QuotaFile(path, noFailure, noRecovery);
    const states: readonly SavedQuota[] = [
      used(0),
      used(9_007_199_254_740_991),
      { ...used(5), period: 'day' },
      { ...used(5), countsSinceMs: 1_773_100_800_000 },
    ];
    for (const saved of states) {
      await file.save(saved);
      assert.deepEqual(loadQuota(path), saved);
    }
    assert.deepEqual(await readdir(join(path, '..')), ['quota.json']);
  });

  test('is written only if something has changed', async (context) => {
    const path = join(await scratch(context), 'quota.json');
    const file = new QuotaFile(path, noFailure, noRecovery);
    await file.save(used(1));
    const { ino } = await stat(path);
    await file.save(used(1));
    assert.equal((await stat(path)).ino, ino);
    await file.save(used(2));
    // The file is replaced: a reader of the old one still gets all of it.
    assert.notEqual((await stat(path)).ino, ino);
    assert.deepEqual(loadQuota(path), used(2));
  });

  test('has one write at a time, and ends with the last saved state', async (context) => {
    const path = join(await scratch(context), 'quota.json');
    const file = new QuotaFile(path, noFailure, noRecovery);
    // Two writes at once would conflict, because each recreates the file.
    const saves = Array.from({ length: 200 }, (_, index) => file.save(used(index)));
    await Promise.all(saves);
    assert.deepEqual(loadQuota(path), used(199));
    assert.deepEqual(await readdir(join(path, '..')), ['quota.json']);
  });

  test('reports a failed write once until one succeeds, and retries with each save', async (context) => {
    const directory = join(await scratch(context), 'mounted');
    const path = join(directory, 'quota.json');
    const codes: string[] = [];
    const file = new QuotaFile(
      path,
      (code) => codes.push(code),
      () => codes.push('recovered'),
    );
    await file.save(used(1));
    await file.save(used(1));
    await file.save(used(2));
    assert.deepEqual(codes, ['ENOENT']);
    await mkdir(directory);
    await file.save(used(2));
    assert.deepEqual([loadQuota(path), codes], [used(2), ['ENOENT', 'recovered']]);
    await rm(directory, { recursive: true });
    await file.save(used(3));
    await file.save(used(4));
    assert.deepEqual(codes, ['ENOENT', 'recovered', 'ENOENT']);
  });

  test('leaves nothing behind if it cannot be renamed', async (context) => {
    const directory = await scratch(context);
    const path = join(directory, 'quota.json');
    await mkdir(path);
    const codes: string[] = [];
    await new QuotaFile(
      path,
      (code) => codes.push(code),
      () => codes.push('recovered'),
    ).save(used(1));
    assert.deepEqual([codes, await readdir(directory)], [['EISDIR'], ['quota.json']]);
  });

  test('replaces an existing unfinished file, and writes nowhere else', async (context) => {
    const directory = await scratch(context);
    const path = join(directory, 'quota.json');
    const other = join(directory, 'other');
    await writeFile(other, 'mine');
    await symlink(other, `${path}.unfinished`);
    const file = new QuotaFile(path, noFailure, noRecovery);
    await file.save(used(1));
    await writeFile(`${path}.unfinished`, 'half a fi');
    assert.deepEqual(loadQuota(path), used(1));
    assert.deepEqual((await readdir(directory)).toSorted(), ['other', 'quota.json']);
    await writeFile(`${path}.unfinished`, 'half a fi');
    await file.save(used(2));
    assert.deepEqual([loadQuota(path), await readFile(other, 'utf8')], [used(2), 'mine']);
  });

  test('is complete whenever its writer is killed, and never has an older count', async (context) => {
    const directory = await scratch(context);
    const path = join(directory, 'quota.json');
    const random = new Dice(5);
    let previous = 0;
    for (let round = 0; round < 12; round += 1) {
      const args = ['--input-type=module', '-e', WRITER, path];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      context.after(() => child.kill('SIGKILL'));
      const ended = once(child, 'close');
      let output = '';
      const minLines = random.between(1, 40);
      const enoughOutput = Promise.withResolvers<null>();
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        if (output.split('\n').length > minLines) enoughOutput.resolve(null);
      });
      await Promise.race([enoughOutput.promise, ended]);
      child.kill('SIGKILL');
      await ended;
      const saved = loadQuota(path)?.relayedBytes ?? -1;
      const lines = output.split('\n').slice(0, -1);
      const lastPrinted = Number(lines.at(-1));
      assert.ok(lastPrinted > previous, `${lastPrinted} after ${previous}`);
      assert.ok(saved === lastPrinted || saved === lastPrinted + 1, `saved ${saved}, printed ${lastPrinted}`);
      assert.deepEqual(await readdir(directory), ['quota.json']);
      previous = saved;
    }
  });
});

describe('a file that is not a quota file', () => {
  const complete = { kind: 'magic-wormhole transit relay quota', version: 1, ...used(5) };
  const texts: readonly (readonly [name: string, text: string])[] = [
    ['an empty file', ''],
    ['an incomplete quota file', JSON.stringify(complete).slice(0, -10)],
    ['zeros, as after a power cut', '\0'.repeat(100)],
    ['other JSON', '{"day":"2026-03-10","period":"month","relayedBytes":5}'],
    ['a list', '[]'],
    ['null', 'null'],
    ['a quota file of a newer relay', JSON.stringify({ ...complete, version: 2 })],
    ['another kind', JSON.stringify({ ...complete, kind: 'x' })],
    ['an invalid day', JSON.stringify({ ...complete, day: '2026-13-10' })],
    ['a day that is not a string', JSON.stringify({ ...complete, day: 1 })],
    ['an invalid period', JSON.stringify({ ...complete, period: 'year' })],
    ['a negative number of bytes', JSON.stringify({ ...complete, relayedBytes: -1 })],
    ['a fractional number of bytes', JSON.stringify({ ...complete, relayedBytes: 0.5 })],
    ['too many bytes', JSON.stringify({ ...complete, relayedBytes: 1e300 })],
    ['no number of bytes', JSON.stringify({ ...complete, relayedBytes: undefined })],
    ['a large file', `${JSON.stringify(complete)}${' '.repeat(10_000)}`],
  ];
  for (const [name, text] of texts) {
    test(`is rejected with an error message and not changed: ${name}`, async (context) => {
      const path = join(await scratch(context), 'quota.json');
      await writeFile(path, text);
      assert.throws(
        () => loadQuota(path),
        (error) =>
          error instanceof QuotaFileError && /is not a quota file or is damaged; /u.test(error.message),
      );
      assert.equal(await readFile(path, 'utf8'), text);
    });
  }

  test('is rejected if it is a directory or a pipe, or if its directory is not writable', async (context) => {
    const directory = await scratch(context);
    await mkdir(join(directory, 'quota.json'));
    execFileSync('mkfifo', [join(directory, 'pipe')]);
    for (const name of ['quota.json', 'pipe'])
      assert.throws(() => loadQuota(join(directory, name)), QuotaFileError);
    assert.throws(() => loadQuota(join(directory, 'gone', 'quota.json')), {
      message: /^cannot write to the directory of the quota file ".*" \(ENOENT\)$/u,
    });
    await chmod(directory, 0o500);
    try {
      // Root may write everywhere.
      if (process.getuid?.() !== 0)
        assert.throws(() => loadQuota(join(directory, 'x')), /written \(EACCES\)/u);
    } finally {
      await chmod(directory, 0o700);
    }
  });
});
