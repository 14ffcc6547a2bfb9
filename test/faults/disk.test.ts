import assert from 'node:assert/strict';
import { rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { requireMount, mountTmpfs } from '../support/usage-files.ts';
import { FailingDisk, fill } from './disks.ts';
import { RelayUnderTest, range, injectFault, relayPairs } from './relay-under-test.ts';
import { assertWritten } from './usage-check.ts';

const FAILED = /usage database write failed; will retry/u;
const RECOVERED = /usage database write recovered/u;

describe('the disk of the usage database', { concurrency: true }, () => {
  test('records wait for free space on a full disk', async (context) => {
    if (!requireMount(context)) return;
    const disk = mountTmpfs(context, 'size=2m');
    const path = join(disk, 'usage.sqlite');
    await using relay = await RelayUnderTest.start({ RELAY_USAGE_DB: path });
    await relayPairs(relay.port, range(1, 5));
    const bystanders = await injectFault(context, relay, 'disk full', async () => {
      fill(join(disk, 'filler'));
      assert.equal(statfsSync(disk).bavail, 0);
      await relayPairs(relay.port, range(6, 30));
      await relay.waitForLog(FAILED);
      await relayPairs(relay.port, range(31, 60));
      assert.doesNotMatch(relay.log, RECOVERED);
      rmSync(join(disk, 'filler'));
      await relay.waitForLog(RECOVERED);
    });
    assert.match(relay.log, /"code":"SQLITE_FULL"/u);
    await assertWritten(path, [...range(1, 60), ...bystanders]);
    await relay.stop();
  });

  test('a disk that fails and becomes read-only stops no transfer, and records wait for its repair', async (context) => {
    const disk = FailingDisk.mount(context);
    if (disk === null) return;
    const path = join(disk.directory, 'usage.sqlite');
    await using relay = await RelayUnderTest.start({ RELAY_USAGE_DB: path });
    await relayPairs(relay.port, range(1, 20));
    await assertWritten(path, range(1, 20));
    const bystanders = await injectFault(context, relay, 'disk read-only', async () => {
      disk.fail();
      assert.throws(() => writeFileSync(join(disk.directory, 'file'), ''), { code: 'EROFS' });
      await relayPairs(relay.port, range(21, 60));
      await relay.waitForLog(FAILED);
      assert.doesNotMatch(relay.log, RECOVERED);
      // The relay has no open file that keeps the disk from being unmounted.
      disk.repair();
      await relay.waitForLog(RECOVERED);
    });
    await assertWritten(path, [...range(1, 60), ...bystanders]);
    await relay.stop();
  });
});
