import type { JobRunner } from './job-pool.ts';
import { NO_TOTALS } from './metrics-totals-query.ts';
import type { Totals, TotalsState } from './metrics-totals-query.ts';
import type { TotalsOutcome, TotalsTask } from './usage-messages.ts';
import type { UsageSource } from './usage-source.ts';

export interface UsageTotalsOptions {
  readonly source: UsageSource;
  /** Where the jobs run; it stays the caller's. */
  readonly pool: JobRunner<'totals'>;
  /** Something in this program is wrong; the next `refresh` tries again. */
  readonly fault: (error: unknown) => void;
}

/**
 * Sums over all records, for which each record is read once: the first time that takes seconds where there are
 * millions, and then next to nothing. One job runs at a time, a page long, so that questions get their turn.
 */
export class UsageTotals {
  readonly #options: UsageTotalsOptions;
  readonly #closing = new AbortController();
  /** How far the reading is. */
  #state: TotalsState | null = null;
  #known: Totals = NO_TOTALS;
  #page: Promise<boolean> | null = null;

  constructor(options: UsageTotalsOptions) {
    this.#options = options;
  }

  /**
   * As of the last time that all had been read; zeros until then. They grow, and begin anew with a table that is
   * not the one that was read before.
   */
  get known(): Totals {
    return this.#known;
  }

  /**
   * Reads what is new. Never rejects.
   *
   * @returns whether the database can be read, which is known when a page of it was: where there are more, reading goes
   * on by itself
   */
  refresh(): Promise<boolean> {
    this.#page ??= this.#readPage();
    return this.#page;
  }

  /** Ends what runs, and resolves when it has ended. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#page;
  }

  async #readPage(): Promise<boolean> {
    const { source, pool, fault } = this.#options;
    const task: TotalsTask = { source, known: this.#state };
    const { signal } = this.#closing;
    let isMore = false;
    try {
      const outcome: TotalsOutcome = await pool.run('totals', task, { signal });
      if (outcome.kind === 'failed') return false;
      this.#state = outcome.state;
      isMore = !outcome.isComplete;
      // What is not whole yet would look as if all these records were made just now.
      if (outcome.isComplete) this.#known = outcome.state;
      return true;
    } catch (error) {
      if (!signal.aborted) fault(error);
      return false;
    } finally {
      this.#page = null;
      if (isMore && !signal.aborted) void this.refresh();
    }
  }
}
