import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Snapshot } from '../../../../src/sidecar/api.ts';
import {
  publishSnapshot,
  readSnapshotFiles,
  readSnapshots,
  removeLeftovers,
  removeSnapshot,
  snapshotName,
  unfinishedPath,
} from '../../../../src/sidecar/snapshots/snapshot-files.ts';
import { scratch } from '../../../support/scratch.ts';

const CONTENT = 'the content of a snapshot';

function snapshotAt(time: number): Snapshot {
  return {
    name: snapshotName(time),
    time: new Date(time).toISOString(),
    bytes: CONTENT.length,
    sha256: '0123456789abcdef'.repeat(4),
    rows: 3,
  };
}

/** Publishes a snapshot in the directory. */
async function publish(directory: string, time: number): Promise<Snapshot> {
  const snapshot = snapshotAt(time);
  const finished = unfinishedPath(directory);
  writeFileSync(finished, CONTENT);
  await publishSnapshot(directory, finished, snapshot);
  return snapshot;
}

const SECOND = 1_700_000_000_000;

test('the name of a snapshot is its time in UTC, in seconds', () => {
  assert.equal(snapshotName(SECOND), 'usage-20231114T221320Z.sqlite');
  assert.equal(snapshotName(SECOND + 999), 'usage-20231114T221320Z.sqlite');
});

describe('a directory of snapshots', () => {
  test('lists what was published, newest first, until it is removed', async (context) => {
    const directory = await scratch(context);
    const old = await publish(directory, SECOND);
    const newest = await publish(directory, SECOND + 2000);
    const middle = await publish(directory, SECOND + 1000);
    writeFileSync(join(directory, 'usage-other.sqlite'), 'not a snapshot');
    assert.deepEqual(await readSnapshots(directory), [newest, middle, old]);
    await removeSnapshot(directory, middle.name);
    await removeSnapshot(directory, middle.name);
    assert.deepEqual(await readSnapshots(directory), [newest, old]);
    assert.equal(readdirSync(directory).length, 5);
  });

  test('has no new file after a failure to publish', async (context) => {
    const directory = await scratch(context);
    const finished = unfinishedPath(join(directory, 'missing'));
    await assert.rejects(publishSnapshot(directory, finished, snapshotAt(SECOND)), { code: 'ENOENT' });
    assert.deepEqual(await readSnapshotFiles(directory), []);
    await removeLeftovers(directory);
    assert.deepEqual(readdirSync(directory), []);
  });

  test('is cleared of unfinished files and of metadata without a file, and of nothing else', async (context) => {
    const directory = await scratch(context);
    const { name } = await publish(directory, SECOND);
    const kept = [name, `${name}.json`, 'other', 'other.json', '.hidden'];
    const gone = [`${snapshotName(SECOND + 5000)}.json`, '.unfinished-x.sqlite', '.unfinished-x.sqlite-wal'];
    for (const file of [...kept.slice(2), ...gone]) writeFileSync(join(directory, file), '');
    await removeLeftovers(directory);
    assert.deepEqual(readdirSync(directory).toSorted(), kept.toSorted());
  });

  const good = snapshotAt(SECOND);
  const { rows: _rows, ...withoutRows } = good;
  for (const [what, metadata] of [
    ['another name', { ...good, name: snapshotName(SECOND + 1000) }],
    ['another size', { ...good, bytes: CONTENT.length + 1 }],
    ['no time', { ...good, time: 'yesterday at noon' }],
    ['a time that is a number', { ...good, time: SECOND }],
    ['a short hash', { ...good, sha256: good.sha256.slice(1) }],
    ['a long hash', { ...good, sha256: `${good.sha256}0` }],
    ['a hash in capitals', { ...good, sha256: good.sha256.toUpperCase() }],
    ['a hash that is a number', { ...good, sha256: 1 }],
    ['half a row', { ...good, rows: 0.5 }],
    ['no rows', withoutRows],
    ['a list', [good]],
    ['nothing', null],
  ] as const) {
    test(`shows a file as invalid if its metadata have ${what}`, async (context) => {
      const directory = await scratch(context);
      const { name } = await publish(directory, SECOND);
      writeFileSync(join(directory, `${name}.json`), JSON.stringify(metadata));
      assert.deepEqual(await readSnapshotFiles(directory), [{ name, snapshot: null }]);
      assert.deepEqual(await readSnapshots(directory), []);
    });
  }

  test('shows a file as invalid if its metadata are missing or no JSON, and keeps it', async (context) => {
    const directory = await scratch(context);
    const { name } = await publish(directory, SECOND);
    writeFileSync(join(directory, `${name}.json`), '{');
    assert.deepEqual(await readSnapshotFiles(directory), [{ name, snapshot: null }]);
    await removeSnapshot(directory, `${name}.json`);
    assert.deepEqual(await readSnapshotFiles(directory), [{ name, snapshot: null }]);
    await removeLeftovers(directory);
    assert.equal(existsSync(join(directory, name)), true);
  });
});
