import type { Granularity, UsageReport } from '../api.ts';
import type { JobRunner } from '../job-pool.ts';
import type { AggregateOutcome, AggregateTask, UsageFailure } from './usage-job.ts';
import { endOfCurrentSecond } from './usage-params.ts';
import type { UsageRange } from './usage-params.ts';
import { isoTime } from './usage-query.ts';
import type { UsageSource } from './usage-source.ts';

/** A report is cached for at least this long, in milliseconds. */
const MIN_TTL_MS = 1000;

/**
 * A report is cached for this multiple of its duration, so that one report uses at most a twentieth of a
 * core.
 */
const TTL_COST_FACTOR = 20;

/** Maximum number of cached reports and of their rows together, which take about 40 MB. */
const MAX_CACHED_REPORTS = 50;
export const MAX_CACHED_ROWS = 200_000;

/** `rejected`: the report would be too long. `failed`: the database can't be read. */
export type ReportOutcome =
  | { readonly kind: 'ok'; readonly report: UsageReport }
  | { readonly kind: 'rejected'; readonly problem: string }
  | UsageFailure;

export interface UsageReportsOptions {
  readonly source: UsageSource;
  /** Runs the job. The caller closes it. */
  readonly pool: JobRunner<'aggregate'>;
  /** Milliseconds since the epoch. */
  readonly clock: () => number;
}

interface CachedReport {
  readonly outcome: ReportOutcome;
  readonly fromMs: number;
  readonly untilMs: number;
}

/** Reports for `GET /usage.json`. Expensive reports are cached for longer. */
export class UsageReports {
  readonly #options: UsageReportsOptions;
  /** By query, least recently used first. */
  readonly #cache = new Map<string, CachedReport>();
  readonly #running = new Map<string, Promise<ReportOutcome>>();
  readonly #closing = new AbortController();

  constructor(options: UsageReportsOptions) {
    this.#options = options;
  }

  /**
   * The report on `range`, possibly from the cache: `generated` says when it was made. Concurrent equal
   * queries share one job. Rejects with an AbortError when closed.
   */
  report(range: UsageRange<Granularity>): Promise<ReportOutcome> {
    const key = `${range.by} ${range.from} ${range.to ?? 'now'}`;
    const cached = this.#getCached(key);
    if (cached !== null) return Promise.resolve(cached);
    const shared = this.#running.get(key);
    if (shared !== undefined) return shared;
    const running = this.#query(key, range).finally(() => this.#running.delete(key));
    this.#running.set(key, running);
    return running;
  }

  /** Aborts running queries, and resolves when they have ended. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#cache.clear();
    await Promise.allSettled(this.#running.values());
  }

  #getCached(key: string): ReportOutcome | null {
    const cached = this.#cache.get(key);
    if (cached === undefined) return null;
    this.#cache.delete(key);
    const nowMs = this.#options.clock();
    // If the clock was set back, the report expires at once.
    if (nowMs < cached.fromMs || nowMs >= cached.untilMs) return null;
    this.#cache.set(key, cached);
    return cached.outcome;
  }

  async #query(key: string, range: UsageRange<Granularity>): Promise<ReportOutcome> {
    const { source, pool, clock } = this.#options;
    const generatedMs = clock();
    const task: AggregateTask = {
      source,
      by: range.by,
      from: range.from,
      to: range.to ?? endOfCurrentSecond(generatedMs),
      now: generatedMs / 1000,
    };
    const signal = this.#closing.signal;
    const found: AggregateOutcome = await pool.run('aggregate', task, { signal });
    const outcome = toOutcome(task, generatedMs, found);
    this.#setCached(key, outcome, found.kind === 'failed' ? 0 : found.tookMs);
    return outcome;
  }

  #setCached(key: string, outcome: ReportOutcome, costMs: number): void {
    const fromMs = this.#options.clock();
    this.#cache.set(key, {
      outcome,
      fromMs,
      untilMs: fromMs + Math.max(MIN_TTL_MS, TTL_COST_FACTOR * costMs),
    });
    let rows = [...this.#cache.values()].reduce((sum, cached) => sum + rowCount(cached.outcome), 0);
    for (const [oldest, cached] of this.#cache) {
      if (this.#cache.size <= MAX_CACHED_REPORTS && rows <= MAX_CACHED_ROWS) break;
      rows -= rowCount(cached.outcome);
      this.#cache.delete(oldest);
    }
  }
}

function rowCount(outcome: ReportOutcome): number {
  return outcome.kind === 'ok' ? outcome.report.rows.length : 0;
}

function toOutcome(task: AggregateTask, generatedMs: number, found: AggregateOutcome): ReportOutcome {
  if (found.kind !== 'ok') return found;
  const { by, from, to } = task;
  return {
    kind: 'ok',
    report: {
      by,
      from: isoTime(from),
      to: isoTime(to),
      generated: new Date(generatedMs).toISOString(),
      recorded: found.recorded,
      rows: found.rows,
      waiting: found.waiting,
    },
  };
}
