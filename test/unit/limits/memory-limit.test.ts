import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { memoryLimit } from '../../../src/limits/memory-limit.ts';
import { MemoryCgroup, skipWithoutCgroups } from '../../support/memory-cgroup.ts';
import { Program } from '../../support/programs.ts';
import { scratch } from '../../support/scratch.ts';

const MODULE = new URL('../../../src/limits/memory-limit.ts', import.meta.url).href;

const MiB = 2 ** 20;

const MACHINE = 8192 * MiB;

/** Three quarters of it. */
const MACHINE_LIMIT = { bytes: 6144 * MiB, source: 'machine', cgroup2: null };

/** The value of a version 1 cgroup without a limit. */
const UNLIMITED = '9223372036854771712';

const MOUNT_2 = '30 23 0:26 ROOT /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate';
const MOUNT_1 = '35 31 0:32 ROOT /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory';
const OTHER = '32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu';

interface Case {
  readonly name: string;
  readonly mounts: readonly string[];
  readonly groups: readonly string[];
  /** Contents of files under /sys/fs/cgroup. */
  readonly files: Readonly<Record<string, string>>;
  /** In MiB. Null: the limit of the machine. */
  readonly limit: number | null;
  /** Directory under /sys/fs/cgroup with the limit, if its version is 2. */
  readonly cgroup2?: string;
}

const CASES: readonly Case[] = [
  {
    name: 'cgroup v2, in a container whose own cgroup is the root',
    mounts: [MOUNT_2.replace('ROOT', '/')],
    groups: ['0::/'],
    files: { 'memory.max': `${512 * MiB}`, 'memory.high': 'max' },
    limit: 512,
    cgroup2: '',
  },
  {
    name: 'cgroup v2, as a unit of systemd',
    mounts: [MOUNT_2.replace('ROOT', '/')],
    groups: ['0::/system.slice/transit-relay.service'],
    files: {
      'system.slice/transit-relay.service/memory.max': `${300 * MiB}`,
      'system.slice/memory.max': 'max',
    },
    limit: 300,
    cgroup2: 'system.slice/transit-relay.service',
  },
  {
    name: 'cgroup v2, with a lower limit in a parent cgroup',
    mounts: [MOUNT_2.replace('ROOT', '/')],
    groups: ['0::/pods/pod1/relay'],
    files: {
      'pods/pod1/relay/memory.max': `${900 * MiB}`,
      'pods/pod1/memory.max': `${700 * MiB}`,
      'pods/memory.max': `${4000 * MiB}`,
    },
    limit: 700,
    cgroup2: 'pods/pod1',
  },
  {
    name: 'cgroup v2, with a lower memory.high',
    mounts: [MOUNT_2.replace('ROOT', '/')],
    groups: ['0::/relay'],
    files: { 'relay/memory.max': `${900 * MiB}`, 'relay/memory.high': `${800 * MiB}` },
    limit: 800,
    cgroup2: 'relay',
  },
  {
    name: 'cgroup v1, in a container that sees its path on the host',
    mounts: [OTHER, MOUNT_1.replace('ROOT', '/docker/4711')],
    groups: ['5:cpu,cpuacct:/docker/4711', '4:memory:/docker/4711', '0::/'],
    files: { 'memory/memory.limit_in_bytes': `${1024 * MiB}` },
    limit: 1024,
  },
  {
    name: 'cgroup v1, with a lower limit in a parent cgroup',
    mounts: [OTHER, MOUNT_1.replace('ROOT', '/')],
    groups: ['4:memory:/docker/4711'],
    files: {
      'memory/memory.limit_in_bytes': UNLIMITED,
      'memory/docker/memory.limit_in_bytes': `${600 * MiB}`,
      'memory/docker/4711/memory.limit_in_bytes': UNLIMITED,
    },
    limit: 600,
  },
  {
    name: 'both cgroup versions, with the memory controller in v1',
    mounts: [
      MOUNT_2.replace('ROOT /sys/fs/cgroup', '/ /sys/fs/cgroup/unified'),
      MOUNT_1.replace('ROOT', '/'),
    ],
    groups: ['4:memory:/relay', '0::/relay'],
    files: { 'memory/relay/memory.limit_in_bytes': `${256 * MiB}` },
    limit: 256,
  },
  {
    name: 'a cgroup outside of the mounted directory',
    mounts: [MOUNT_2.replace('ROOT', '/docker/1')],
    groups: ['0::/../../other'],
    files: { 'memory.max': `${128 * MiB}`, 'other/memory.max': `${1 * MiB}` },
    limit: 128,
    cgroup2: '',
  },
  {
    name: 'no limit in cgroup v2',
    mounts: [MOUNT_2.replace('ROOT', '/')],
    groups: ['0::/relay'],
    files: { 'relay/memory.max': 'max' },
    limit: null,
  },
  {
    name: 'no limit in cgroup v1',
    mounts: [MOUNT_1.replace('ROOT', '/')],
    groups: ['4:memory:/'],
    files: { 'memory/memory.limit_in_bytes': UNLIMITED },
    limit: null,
  },
  { name: 'no cgroups', mounts: [], groups: [], files: {}, limit: null },
  {
    name: 'a space in the mount point',
    mounts: [MOUNT_2.replace('ROOT /sys/fs/cgroup', String.raw`/ /sys/fs/cgroup/a\040b`)],
    groups: ['0::/'],
    files: { 'a b/memory.max': `${64 * MiB}` },
    limit: 64,
    cgroup2: 'a b',
  },
];

async function fileSystemOf(context: TestContext, { mounts, groups: cgroups, files }: Case): Promise<string> {
  const root = await scratch(context);
  const all = {
    'proc/self/mountinfo': mounts.map((line) => `${line}\n`).join(''),
    'proc/self/cgroup': cgroups.map((line) => `${line}\n`).join(''),
    ...Object.fromEntries(
      Object.entries(files).map(([path, text]) => [`sys/fs/cgroup/${path}`, `${text}\n`]),
    ),
  };
  for (const [path, text] of Object.entries(all)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
  return root;
}

describe('the memory limit', () => {
  for (const testCase of CASES) {
    test(`is read with ${testCase.name}`, async (context) => {
      const root = await fileSystemOf(context, testCase);
      const { limit, cgroup2 } = testCase;
      assert.deepEqual(
        memoryLimit(root, MACHINE),
        limit === null
          ? MACHINE_LIMIT
          : {
              bytes: limit * MiB,
              source: 'container',
              // Buffers of sockets are not in a limit of version 1.
              cgroup2: cgroup2 === undefined ? null : join(root, 'sys/fs/cgroup', cgroup2),
            },
      );
    });
  }

  test('is that of the machine if nothing can be read', async (context) => {
    const root = await scratch(context);
    assert.deepEqual(memoryLimit(join(root, 'gone'), MACHINE), MACHINE_LIMIT);
  });

  test('is that of this process, and the same as in Node.js', { skip: skipWithoutCgroups() }, async () => {
    await using cgroup = await MemoryCgroup.make(200 * MiB);
    const script = `
      import { memoryLimit } from ${JSON.stringify(MODULE)};
      console.log(JSON.stringify([memoryLimit(), process.constrainedMemory()]));`;
    await using program = new Program([
      ...cgroup.prefix,
      process.execPath,
      '--input-type=module',
      '--eval',
      script,
    ]);
    await program.succeeds(10_000);
    const cgroup2 = MemoryCgroup.includesSocketBuffers ? cgroup.path : null;
    assert.deepEqual(JSON.parse(program.stdout), [
      { bytes: 200 * MiB, source: 'container', cgroup2 },
      200 * MiB,
    ]);
  });
});
