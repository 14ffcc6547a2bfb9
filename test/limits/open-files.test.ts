import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { connectionsWithinFds, fdLimit } from '../../src/limits/capacity.ts';
import { scratch } from '../support/scratch.ts';

const MODULE = new URL('../../src/limits/capacity.ts', import.meta.url).href;

/** As Linux 6.12 prints it, with a line before that must not be taken for it. */
function limitsFile(openFiles: string): string {
  return `Limit                     Soft Limit           Hard Limit           Units     
Max processes             63432                63432                processes 
${openFiles}Max locked memory         8388608              8388608              bytes     
`;
}

describe('the limit of open files', () => {
  const files: readonly (readonly [name: string, text: string, limit: number])[] = [
    ['a soft one', 'Max open files            2048                 524288               files     \n', 2048],
    ['none', 'Max open files            unlimited            unlimited            files     \n', Infinity],
    [
      'a soft one, but no hard one',
      'Max open files            300                  unlimited            files     \n',
      300,
    ],
    ['nothing of it', '', 1024],
    ['no number', 'Max open files            many                 many                 files     \n', 1024],
  ];
  for (const [name, line, limit] of files) {
    test(`is read from a file that has ${name}`, async (context) => {
      const path = join(await scratch(context), 'limits');
      await writeFile(path, limitsFile(line));
      assert.equal(fdLimit(path), limit);
    });
  }

  test('is taken for the usual one where no file can be read', async (context) => {
    const directory = await scratch(context);
    assert.equal(fdLimit(join(directory, 'gone')), 1024);
    assert.equal(fdLimit(directory), 1024);
  });

  test('is that of this very process', { skip: process.platform !== 'linux' }, () => {
    const script = `import { fdLimit } from ${JSON.stringify(MODULE)}; console.log(fdLimit());`;
    // The hard one too: Node raises its soft limit to that.
    const command = 'ulimit -n 333 && exec "$0" --input-type=module -e "$1"';
    const said = execFileSync('sh', ['-c', command, process.execPath, script], { encoding: 'utf8' });
    assert.equal(said, '333\n');
  });
});

describe('the connections that fit into so many descriptors', () => {
  const cases: readonly (readonly [descriptors: number, fits: number])[] = [
    // 64 are for everything else, and 64 for clients that are told that there is no room.
    [1024, 896],
    [524_288, 524_160],
    [130, 2],
    [129, 1],
    // There is always a place for one.
    [128, 1],
    [100, 1],
    [0, 1],
    [Infinity, Infinity],
  ];
  for (const [descriptors, fits] of cases) {
    test(`are ${fits} of ${descriptors}`, () => {
      assert.equal(connectionsWithinFds(descriptors, false), fits);
    });
  }

  test('are less than half as many in a group of relays, where each may have a link', () => {
    const fits = [Infinity, 20_000, 1024, 229, 228, 226, 0].map((descriptors) =>
      connectionsWithinFds(descriptors, true),
    );
    assert.deepEqual(fits, [Infinity, 9888, 400, 2, 2, 1, 1]);
  });
});
