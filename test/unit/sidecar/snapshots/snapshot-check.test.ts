import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { checkNewestSnapshot } from '../../../../src/sidecar/snapshots/snapshot-check.ts';
import { snapshotName } from '../../../../src/sidecar/snapshots/snapshot-files.ts';
import { scratch } from '../../../support/scratch.ts';
import { createUsageFile } from '../../../support/usage-files.ts';

const TIME = Date.UTC(2026, 10, 23, 5);
const HOUR_MS = 3_600_000;

/** A directory with one valid snapshot. */
async function withSnapshot(
  context: TestContext,
): Promise<{ directory: string; name: string; path: string }> {
  const directory = await scratch(context);
  const name = snapshotName(TIME);
  const path = join(directory, name);
  createUsageFile(path, { rows: 3000, journalMode: 'delete' });
  writeMetadata(path, name);
  return { directory, name, path };
}

/** Writes a metadata file that matches the size of the snapshot. */
function writeMetadata(path: string, name: string): void {
  const bytes = readFileSync(path).length;
  const snapshot = { name, time: new Date(TIME).toISOString(), bytes, sha256: '0'.repeat(64), rows: 3000 };
  writeFileSync(`${path}.json`, JSON.stringify(snapshot));
}

function overwrite(path: string, at: number, bytes: Buffer): void {
  const descriptor = openSync(path, 'r+');
  writeSync(descriptor, bytes, 0, bytes.length, at);
  closeSync(descriptor);
}

describe('the check of the newest snapshot', () => {
  test('accepts an undamaged snapshot up to the maximum age', async (context) => {
    const { directory } = await withSnapshot(context);
    assert.equal(await checkNewestSnapshot({ directory, maxAgeMs: HOUR_MS, now: TIME + HOUR_MS }), null);
    assert.match(
      (await checkNewestSnapshot({ directory, maxAgeMs: HOUR_MS, now: TIME + 1.5 * HOUR_MS })) ?? '',
      /"usage-20261123T050000Z\.sqlite" is 1\.5 h old; it should be at most 1 h$/u,
    );
  });

  test('reports that there is no snapshot', async (context) => {
    const directory = await scratch(context);
    assert.match(
      (await checkNewestSnapshot({ directory, maxAgeMs: HOUR_MS, now: TIME })) ?? '',
      /there is no snapshot in ".*" yet/u,
    );
    assert.match(
      (await checkNewestSnapshot({ directory: join(directory, 'gone'), maxAgeMs: HOUR_MS, now: TIME })) ?? '',
      /can't read snapshots in/u,
    );
  });

  const damages: Record<string, [damage: (path: string, name: string) => void, problem: RegExp]> = {
    'a truncated snapshot': [(path) => truncateSync(path, 8192), /does not match its metadata file/u],
    'a snapshot without a metadata file': [
      (path) => rmSync(`${path}.json`),
      /does not match its metadata file/u,
    ],
    'a snapshot with an invalid metadata file': [
      (path) => writeFileSync(`${path}.json`, '{"na'),
      /does not match its metadata file/u,
    ],
    'a snapshot with the metadata file of another one': [
      (path) => writeMetadata(path, 'usage-20260101T000000Z.sqlite'),
      /does not match its metadata file/u,
    ],
    'a truncated snapshot with matching metadata': [
      (path, name) => {
        truncateSync(path, 8192);
        writeMetadata(path, name);
      },
      /is damaged: its header states another size/u,
    ],
    'a snapshot that is not a database': [
      (path) => writeFileSync(path, Buffer.alloc(readFileSync(path).length, 'garbage ')),
      /is damaged: it is not an SQLite database/u,
    ],
    'a snapshot with a corrupt page': [
      (path) => overwrite(path, 5 * 4096, Buffer.alloc(4096, 0x55)),
      /is damaged: SQLite('s check)? says/u,
    ],
    'a snapshot with a corrupt first page': [
      (path) => overwrite(path, 100, Buffer.alloc(900, 0x55)),
      /is damaged: SQLite('s check)? says/u,
    ],
  };
  for (const [what, [damage, problem]] of Object.entries(damages)) {
    test(`detects ${what}, even if an older snapshot is undamaged`, async (context) => {
      const { directory, path, name } = await withSnapshot(context);
      const older = snapshotName(TIME - HOUR_MS);
      createUsageFile(join(directory, older), { journalMode: 'delete' });
      writeMetadata(join(directory, older), older);
      damage(path, name);
      const found = await checkNewestSnapshot({ directory, maxAgeMs: 2 * HOUR_MS, now: TIME });
      assert.match(found ?? 'nothing', problem);
      assert.doesNotMatch(found ?? '', /\n/u);
    });
  }

  test('does not read a large snapshot again', async (context) => {
    const { directory, path, name } = await withSnapshot(context);
    const bytes = 2 ** 28 + 4096;
    const pages = Buffer.alloc(4);
    pages.writeUInt32BE(bytes / 4096);
    overwrite(path, 28, pages);
    truncateSync(path, bytes);
    const snapshot = { name, time: new Date(TIME).toISOString(), bytes, sha256: '0'.repeat(64), rows: 3000 };
    writeFileSync(`${path}.json`, JSON.stringify(snapshot));
    assert.equal(await checkNewestSnapshot({ directory, maxAgeMs: HOUR_MS, now: TIME }), null);
  });
});
