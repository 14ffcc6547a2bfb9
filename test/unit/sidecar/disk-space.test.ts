import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeSpaceShortage, missingBytes } from '../../../src/sidecar/disk-space.ts';
import { mountTmpfs, requireMount } from '../../support/usage-files.ts';

const MIB = 2 ** 20;

for (const { size, sizeBytes, reserveBytes } of [
  { size: '100m', sizeBytes: 100 * MIB, reserveBytes: 64 * MIB },
  { size: '2000m', sizeBytes: 2000 * MIB, reserveBytes: 100 * MIB },
]) {
  test(`a disk of ${size} keeps ${reserveBytes / MIB} MiB free`, (context) => {
    if (!requireMount(context)) return;
    const directory = mountTmpfs(context, `size=${size}`);
    const usableBytes = sizeBytes - reserveBytes;
    assert.equal(missingBytes(directory, usableBytes), 0);
    assert.equal(describeSpaceShortage(directory, usableBytes, 'a copy'), null);
    assert.equal(missingBytes(directory, usableBytes + 1000), 1000);
    const [has, takes, reserve] = [sizeBytes, usableBytes + 1000, reserveBytes].map((bytes) =>
      (bytes / 1e6).toFixed(1),
    );
    assert.equal(
      describeSpaceShortage(directory, usableBytes + 1000, 'a copy'),
      `the disk of "${directory}" has ${has} MB free, but a copy takes ${takes} MB and ${reserve} MB must stay free: free some space there`,
    );
  });
}
