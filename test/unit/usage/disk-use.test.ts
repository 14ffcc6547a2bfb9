import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { readDiskUse } from '../../../src/usage/disk-use.ts';
import { scratch } from '../../support/scratch.ts';

describe('the disk use of a usage database', () => {
  test('includes the write-ahead log, if there is one', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    writeFileSync(path, Buffer.alloc(5000));
    assert.equal(readDiskUse(path)?.databaseBytes, 5000);
    writeFileSync(`${path}-wal`, Buffer.alloc(300));
    assert.equal(readDiskUse(path)?.databaseBytes, 5300);
    assert.ok((readDiskUse(path)?.freeBytes ?? 0) > 2 ** 20);
  });

  test('is unknown if the database or its directory is missing', async (context) => {
    const directory = await scratch(context);
    assert.equal(readDiskUse(join(directory, 'usage.sqlite')), null);
    assert.equal(readDiskUse(join(directory, 'missing', 'usage.sqlite')), null);
  });
});
