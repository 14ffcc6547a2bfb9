import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { readSocketBuffers } from '../../../src/limits/socket-buffers.ts';
import { scratch } from '../../support/scratch.ts';

const MiB = 2 ** 20;

const HOST = 16_384 * MiB;

/** The kernel's defaults: 128 KiB and 16 KiB. */
const DEFAULT_BYTES = 147_456;

describe('the buffers of the kernel', () => {
  const cases: readonly (readonly [name: string, files: Readonly<Record<string, string>>, bytes: number])[] =
    [
      [
        'the initial ones of both directions',
        { tcp_rmem: '4096\t262144\t3670016\n', tcp_wmem: '4096\t32768\t2621440\n' },
        294_912,
      ],
      ['one default if a file is missing', { tcp_rmem: '4096 65536 1048576\n' }, 81_920],
      ['the defaults if no file can be read', {}, DEFAULT_BYTES],
      ['the defaults instead of other text', { tcp_rmem: '1 2\n', tcp_wmem: 'max\n' }, DEFAULT_BYTES],
    ];
  for (const [name, files, bytesPerConnection] of cases) {
    test(`are ${name}`, async (context) => {
      const root = await scratch(context);
      const directory = join(root, 'proc/sys/net/ipv4');
      await mkdir(directory, { recursive: true });
      for (const [file, text] of Object.entries(files)) await writeFile(join(directory, file), text);
      assert.deepEqual(readSocketBuffers(root, HOST), { bytesPerConnection, maxTotalBytes: 1536 * MiB });
    });
  }

  test('are those of this network namespace', { skip: process.platform !== 'linux' }, () => {
    const { bytesPerConnection, maxTotalBytes } = readSocketBuffers();
    assert.ok(bytesPerConnection > 0 && maxTotalBytes > 0, `${bytesPerConnection} of ${maxTotalBytes}`);
  });
});
