import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Time between two checks, in milliseconds. A check takes 70 µs. In this time, clients at 1 Gbit/s fill 6 MiB of the
 * kernel's buffers.
 */
const CHECK_INTERVAL_MS = 50;

/**
 * When stalled pairs are ended, by the share of the limit that is used. A pair whose receiver is slower than its
 * sender is paused again and again, so it counts as stalled only after a while. If memory is nearly used up, that
 * time is short: otherwise the kernel would kill the relay, and with it all pairs.
 */
const LEVELS: readonly Level[] = [
  { usedShare: 0.85, minStallMs: 100 },
  { usedShare: 0.75, minStallMs: 2000 },
];

/** Share of the limit below which buffers of sockets are not the reason for a shortage. */
const MIN_SOCKET_SHARE = 0.1;

interface Level {
  readonly usedShare: number;
  readonly minStallMs: number;
}

/** What a cgroup uses, in bytes. */
export interface MemoryUsage {
  /** Memory that the kernel cannot reclaim without harm: all but its caches. */
  readonly unreclaimable: number;
  /** The part of it that is buffers of sockets. */
  readonly sockets: number;
}

export interface MemoryGuardOptions {
  /** The kernel kills the process if it uses more. */
  readonly limitBytes: number;
  /** Null: it cannot be read now. */
  readonly readUsage: () => MemoryUsage | null;
  /**
   * Ends a share of the stalled pairs, the one that has been stalled for the longest first, and frees their
   * buffers. Pairs that have been stalled for less than `minStallMs` are not ended. Resolves with the number of
   * pairs that were ended.
   */
  readonly endStalled: (share: number, minStallMs: number) => Promise<number>;
  /** Pairs were ended; none if memory is nearly used up, and no pair is stalled. */
  readonly onShortage: (endedPairs: number, usage: MemoryUsage) => void;
}

/**
 * Keeps stalled pairs from using up the memory of the cgroup. The kernel buffers megabytes for each, and in version
 * 2 of cgroups it kills the process when they exceed the limit. Only closing a connection frees them.
 */
export class MemoryGuard {
  readonly #options: MemoryGuardOptions;
  #timer: NodeJS.Timeout | undefined;
  #isEnding = false;
  #endedPairs = 0;

  constructor(options: MemoryGuardOptions) {
    this.#options = options;
  }

  /** Pairs that were ended so far. */
  get endedPairs(): number {
    return this.#endedPairs;
  }

  start(): void {
    this.#timer = setInterval(() => void this.check(), CHECK_INTERVAL_MS);
  }

  /** Does nothing while pairs are being ended. */
  async check(): Promise<void> {
    if (this.#isEnding) return;
    const usage = this.#options.readUsage();
    if (usage === null) return;
    const { limitBytes } = this.#options;
    const level = LEVELS.find(({ usedShare }) => usage.unreclaimable > usedShare * limitBytes);
    if (level === undefined || usage.sockets < MIN_SOCKET_SHARE * limitBytes) return;
    this.#isEnding = true;
    const ended = await this.#options.endStalled(this.#excessShare(usage), level.minStallMs);
    this.#isEnding = false;
    this.#endedPairs += ended;
    if (ended > 0 || level === LEVELS[0]) this.#options.onShortage(ended, usage);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /**
   * The share of all sockets' buffers above the lowest level. How much each connection has is unknown; if those that
   * are ended have less than the others, the next check ends more.
   */
  #excessShare({ unreclaimable, sockets }: MemoryUsage): number {
    const target = this.#options.limitBytes * (LEVELS.at(-1)?.usedShare ?? 1);
    return Math.min(1, (unreclaimable - target) / Math.max(1, sockets));
  }
}

/** Fields of `memory.stat` that are read. `file` is the page cache; it includes the other two of files. */
const FIELDS = /^(sock|file|file_mapped|shmem|slab_reclaimable) (\d+)$/gmu;

/**
 * Reads what a cgroup of version 2 and the cgroups in it use. Null if it cannot be read.
 *
 * The kernel can also reclaim mapped files, but those are the program itself: it would hardly run any more.
 *
 * @param cgroup directory with `memory.current` and `memory.stat`
 */
export function readMemoryUsage(cgroup: string): MemoryUsage | null {
  try {
    const charged = Number(readFileSync(join(cgroup, 'memory.current'), 'latin1'));
    const statistics = readFileSync(join(cgroup, 'memory.stat'), 'latin1');
    const fields = new Map<string | undefined, number>();
    for (const [, name, bytes] of statistics.matchAll(FIELDS)) fields.set(name, Number(bytes));
    const field = (name: string): number => fields.get(name) ?? 0;
    const reclaimableFiles = Math.max(0, field('file') - field('file_mapped') - field('shmem'));
    return {
      unreclaimable: charged - reclaimableFiles - field('slab_reclaimable'),
      sockets: field('sock'),
    };
  } catch {
    return null;
  }
}
