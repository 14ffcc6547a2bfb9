import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from './programs.ts';

/** Files of the memory controller, by cgroup version: limits, peak usage, and number of OOM kills. */
const VERSIONS = [
  {
    root: '/sys/fs/cgroup',
    isAvailable: () => readFileSync('/sys/fs/cgroup/cgroup.subtree_control', 'utf8').includes('memory'),
    limits: { 'memory.max': null, 'memory.swap.max': 0 },
    peak: 'memory.peak',
    events: 'memory.events',
    includesSocketBuffers: true,
  },
  {
    root: '/sys/fs/cgroup/memory',
    isAvailable: () => existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes'),
    limits: { 'memory.limit_in_bytes': null },
    peak: 'memory.max_usage_in_bytes',
    events: 'memory.oom_control',
    includesSocketBuffers: false,
  },
] as const;

type Version = (typeof VERSIONS)[number];

/** Time for a control group to become empty after its last process has ended, in milliseconds. */
const EMPTY_TIMEOUT_MS = 10_000;

function findVersion(): Version | null {
  for (const version of VERSIONS) {
    try {
      const path = join(version.root, `relay-test-${randomBytes(4).toString('hex')}`);
      if (!version.isAvailable()) continue;
      mkdirSync(path);
      rmdirSync(path);
      return version;
    } catch {
      // Another version, or no permission.
    }
  }
  return null;
}

const found = findVersion();

/** Reason to skip tests that need a memory limit; false if this process can create control groups. */
export function skipWithoutCgroups(): string | false {
  return found === null
    ? 'needs permission to create control groups with a memory limit: run it as root'
    : false;
}

/** A control group with a memory limit, like a container. The kernel kills processes that exceed it. */
export class MemoryCgroup implements AsyncDisposable {
  /** Whether the kernel's buffers of sockets count. They do in version 2 only. */
  static readonly includesSocketBuffers = found?.includesSocketBuffers === true;

  readonly path: string;
  readonly #version: Version;

  private constructor(version: Version, path: string) {
    this.#version = version;
    this.path = path;
  }

  static async make(limitBytes: number): Promise<MemoryCgroup> {
    if (found === null) throw new Error('there are no control groups');
    const path = join(found.root, `relay-test-${randomBytes(4).toString('hex')}`);
    mkdirSync(path);
    const cgroup = new MemoryCgroup(found, path);
    for (const [file, value] of Object.entries(found.limits)) {
      // Kernels without swap accounting have no file for it.
      if (existsSync(join(path, file))) writeFileSync(join(path, file), String(value ?? limitBytes));
    }
    return cgroup;
  }

  /** Command prefix that runs a program in this control group. */
  get prefix(): readonly string[] {
    return ['sh', '-c', `echo $$ > ${join(this.path, 'cgroup.procs')} && exec "$0" "$@"`];
  }

  /** Peak memory usage, in bytes. */
  get peakBytes(): number {
    return Number(readFileSync(join(this.path, this.#version.peak), 'utf8'));
  }

  /** Number of processes that were killed because of the limit. */
  get oomKills(): number {
    const [, kills = 'NaN'] =
      /^oom_kill (\d+)$/mu.exec(readFileSync(join(this.path, this.#version.events), 'utf8')) ?? [];
    return Number(kills);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await eventually(
      () => `${this.path} was removed`,
      EMPTY_TIMEOUT_MS,
      () => {
        try {
          rmdirSync(this.path);
          return true;
        } catch {
          return null;
        }
      },
    );
  }
}
