import { existsSync, mkdirSync, rmdirSync, writeFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const ROOT = '/sys/fs/cgroup';

/** Files of a memory cgroup, in version 1 and in version 2 of cgroups. */
const VERSIONS = [
  { parent: join(ROOT, 'memory'), limit: 'memory.limit_in_bytes', swap: 'memory.memsw.limit_in_bytes' },
  { parent: ROOT, limit: 'memory.max', swap: 'memory.swap.max' },
] as const;

let made = 0;

/** A memory limit that the kernel enforces: a process that needs more is killed. */
export class MemoryLimit implements AsyncDisposable {
  /** Runs a command under the limit. */
  readonly prefix: readonly string[];
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
    const enter = `echo $$ > ${join(path, 'cgroup.procs')} && exec "$@"`;
    this.prefix = ['sh', '-c', enter, 'sh'];
  }

  /** Null where this process may not make cgroups. The processes have to end before the limit is disposed of. */
  static ofMiB(mebibytes: number): MemoryLimit | null {
    const bytes = String(mebibytes * 2 ** 20);
    for (const { parent, limit, swap } of VERSIONS) {
      made += 1;
      const path = join(parent, `relay-test-${process.pid}-${made}`);
      if (!existsSync(parent)) continue;
      try {
        mkdirSync(path);
        if (existsSync(join(path, limit))) {
          writeFileSync(join(path, limit), bytes);
          if (existsSync(join(path, swap)))
            writeFileSync(join(path, swap), swap === 'memory.swap.max' ? '0' : bytes);
          return new MemoryLimit(path);
        }
        rmdirSync(path);
      } catch {
        // Not allowed, or not this version.
      }
    }
    return null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (
      let tries = 0;
      readFileSync(join(this.#path, 'cgroup.procs'), 'utf8') !== '' && tries < 100;
      tries += 1
    ) {
      await sleep(50);
    }
    rmdirSync(this.#path);
  }
}

/** For tests that are skipped without it. */
export const NEEDS_CGROUPS = 'needs to create memory cgroups: run as root, with /sys/fs/cgroup writable';
