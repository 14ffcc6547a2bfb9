import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from './programs.ts';

/** Where a system has its memory controller, by version: the file with the limit, the usage, and the count of kills. */
const VERSIONS = [
  {
    root: '/sys/fs/cgroup',
    isThere: () => readFileSync('/sys/fs/cgroup/cgroup.subtree_control', 'utf8').includes('memory'),
    limits: { 'memory.max': null, 'memory.swap.max': 0 },
    peak: 'memory.peak',
    events: 'memory.events',
  },
  {
    root: '/sys/fs/cgroup/memory',
    isThere: () => existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes'),
    limits: { 'memory.limit_in_bytes': null },
    peak: 'memory.max_usage_in_bytes',
    events: 'memory.oom_control',
  },
] as const;

type Version = (typeof VERSIONS)[number];

/** How long a group may take to be empty after its last process has ended, in milliseconds. */
const EMPTY_TIMEOUT_MS = 10_000;

function findVersion(): Version | null {
  for (const version of VERSIONS) {
    try {
      const result = join(version.root, `relay-test-${randomBytes(4).toString('hex')}`);
      if (!version.isThere()) continue;
      mkdirSync(result);
      rmdirSync(result);
      return version;
    } catch {
      // Not this one, or not for us.
    }
  }
  return null;
}

const found = findVersion();

/** Why there is no memory limit for a test; false where there can be one. */
export function skipWithoutCgroups(): string | false {
  return found === null ? 'needs control groups with memory that this user may make: run it as root' : false;
}

/** A control group with a memory limit, as a container has it. The kernel kills what needs more. */
export class MemoryCgroup implements AsyncDisposable {
  readonly #version: Version;
  readonly #path: string;

  private constructor(version: Version, path: string) {
    this.#version = version;
    this.#path = path;
  }

  static async make(limitBytes: number): Promise<MemoryCgroup> {
    if (found === null) throw new Error('there are no control groups');
    const path = join(found.root, `relay-test-${randomBytes(4).toString('hex')}`);
    mkdirSync(path);
    const cluster = new MemoryCgroup(found, path);
    for (const [file, value] of Object.entries(found.limits)) {
      // A kernel without accounting of swap has no file for it.
      if (existsSync(join(path, file))) writeFileSync(join(path, file), String(value ?? limitBytes));
    }
    return cluster;
  }

  /** A command that runs another one in here. */
  get prefix(): readonly string[] {
    return ['sh', '-c', `echo $$ > ${join(this.#path, 'cgroup.procs')} && exec "$0" "$@"`];
  }

  /** The most that it ever held, in bytes. */
  get peakBytes(): number {
    return Number(readFileSync(join(this.#path, this.#version.peak), 'utf8'));
  }

  /** Processes that were killed because they needed more. */
  get oomKills(): number {
    const [, kills = 'NaN'] =
      /^oom_kill (\d+)$/mu.exec(readFileSync(join(this.#path, this.#version.events), 'utf8')) ?? [];
    return Number(kills);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await eventually(
      () => `${this.#path} was removed`,
      EMPTY_TIMEOUT_MS,
      () => {
        try {
          rmdirSync(this.#path);
          return true;
        } catch {
          return null;
        }
      },
    );
  }
}
