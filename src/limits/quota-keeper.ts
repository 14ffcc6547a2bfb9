import { Quota } from './quota.ts';
import type { QuotaEvents, QuotaOptions } from './quota.ts';
import { QuotaFile, loadQuota } from './quota-file.ts';

/** Time between two looks, in milliseconds. A crash forgets what was relayed since the last one. */
const LOOK_MS = 1000;

export interface QuotaKeeperOptions extends QuotaOptions {
  /** The file that it is kept in. */
  readonly path: string;
  /** Time that pairs have when it is spent, in milliseconds; null: until they end. */
  readonly graceMs: number | null;
}

export interface QuotaWatch extends QuotaEvents {
  /** Payload relayed since the start of the process, in bytes; never less than before. */
  readonly relayedBytes: () => number;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  /** The time that pairs had is over. */
  graceOver(): void;
  /** It can't be saved. Told once, until it can be again. */
  failed(code: string): void;
}

/** A quota that is looked at every second, and outlives the process. */
export class QuotaKeeper {
  readonly #quota: Quota;
  readonly #file: QuotaFile;
  readonly #relayedBytes: () => number;
  readonly #timer: NodeJS.Timeout;
  #grace: NodeJS.Timeout | undefined;

  /** @throws QuotaFileError where what was used before can't be known */
  constructor(options: QuotaKeeperOptions, watch: QuotaWatch) {
    this.#relayedBytes = watch.relayedBytes;
    this.#quota = new Quota(options, watch.wallClock, loadQuota(options.path), {
      warn: (percent) => watch.warn(percent),
      spent: () => {
        watch.spent();
        if (options.graceMs !== null) this.#grace = setTimeout(() => watch.graceOver(), options.graceMs);
      },
      reset: () => {
        clearTimeout(this.#grace);
        watch.reset();
      },
    });
    this.#file = new QuotaFile(options.path, (code) => watch.failed(code));
    this.#timer = setInterval(() => this.look(), LOOK_MS);
  }

  get usedBytes(): number {
    return this.#quota.usedBytes;
  }

  get limitBytes(): number {
    return this.#quota.limitBytes;
  }

  /** When the next period begins, in milliseconds since the epoch. */
  get resetsAtMs(): number {
    return this.#quota.resetsAtMs;
  }

  /** Counts what was relayed since the last look. */
  look(): void {
    this.#quota.look(this.#relayedBytes());
    void this.#file.save(this.#quota.toSave());
  }

  /** Counts what is left, and saves it. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#quota.look(this.#relayedBytes());
    // That look may have found it spent.
    clearTimeout(this.#grace);
    await this.#file.save(this.#quota.toSave());
  }
}
