import type { Granularity, UsageReport } from '../api.ts';
import type { JobRunner } from '../job-pool.ts';
import type { AggregateOutcome, AggregateTask, UsageFailure } from './usage-job.ts';
import { endOfCurrentSecond } from './usage-params.ts';
import type { UsageRange } from './usage-params.ts';
import { isoTime } from './usage-periods.ts';
import type { UsageSource } from './usage-source.ts';

/** An answer is kept for this long at least, and for ever longer the more it cost. In milliseconds. */
const MIN_TTL_MS = 1000;

/** An answer is kept for so many times what it cost: reports then take a twentieth of one core, however often asked for. */
const TTL_COST_FACTOR = 20;

/** Answers kept at most, and how many rows they may have all together: so many take some 40 MB. */
const MAX_CACHED_REPORTS = 50;
export const MAX_CACHED_ROWS = 200_000;

/** `rejected`: too much was asked for. `failed`: the database can't be read. Both say why in a sentence. */
export type ReportOutcome =
  | { readonly kind: 'ok'; readonly report: UsageReport }
  | { readonly kind: 'rejected'; readonly problem: string }
  | UsageFailure;

export interface UsageReportsOptions {
  readonly source: UsageSource;
  /** Where the job runs; it stays the caller's. */
  readonly pool: JobRunner<'aggregate'>;
  /** Milliseconds since the epoch. */
  readonly clock: () => number;
}

interface CachedReport {
  readonly outcome: ReportOutcome;
  readonly fromMs: number;
  readonly untilMs: number;
}

/** Answers `GET /usage.json`, and asks the database no more often than that is worth. */
export class UsageReports {
  readonly #options: UsageReportsOptions;
  /** By question, the one that was asked longest ago first. */
  readonly #cache = new Map<string, CachedReport>();
  readonly #running = new Map<string, Promise<ReportOutcome>>();
  readonly #closing = new AbortController();

  constructor(options: UsageReportsOptions) {
    this.#options = options;
  }

  /**
   * What happened in `range`, perhaps as of a while ago: the report says when. Who asks while the same is being
   * looked up gets the same answer. Rejects with an AbortError when closed meanwhile or before.
   */
  report(range: UsageRange<Granularity>): Promise<ReportOutcome> {
    const question = `${range.by} ${range.from} ${range.to ?? 'now'}`;
    const kept = this.#getCached(question);
    if (kept !== null) return Promise.resolve(kept);
    const shared = this.#running.get(question);
    if (shared !== undefined) return shared;
    const running = this.#query(question, range).finally(() => this.#running.delete(question));
    this.#running.set(question, running);
    return running;
  }

  /** Ends what runs, and resolves when it has ended. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#cache.clear();
    await Promise.allSettled(this.#running.values());
  }

  #getCached(question: string): ReportOutcome | null {
    const answer = this.#cache.get(question);
    if (answer === undefined) return null;
    this.#cache.delete(question);
    const nowMs = this.#options.clock();
    // A clock that was set back must not keep an answer for as long as it was wrong.
    if (nowMs < answer.fromMs || nowMs >= answer.untilMs) return null;
    this.#cache.set(question, answer);
    return answer.outcome;
  }

  async #query(question: string, range: UsageRange<Granularity>): Promise<ReportOutcome> {
    const { source, pool, clock } = this.#options;
    const generatedMs = clock();
    const task: AggregateTask = {
      source,
      by: range.by,
      from: range.from,
      to: range.to ?? endOfCurrentSecond(generatedMs),
    };
    const signal = this.#closing.signal;
    const found: AggregateOutcome = await pool.run('aggregate', task, { signal });
    const outcome = toOutcome(task, generatedMs, found);
    this.#setCached(question, outcome, found.kind === 'failed' ? 0 : found.tookMs);
    return outcome;
  }

  #setCached(question: string, outcome: ReportOutcome, costMs: number): void {
    const fromMs = this.#options.clock();
    this.#cache.set(question, {
      outcome,
      fromMs,
      untilMs: fromMs + Math.max(MIN_TTL_MS, TTL_COST_FACTOR * costMs),
    });
    let rows = [...this.#cache.values()].reduce((sum, answer) => sum + rowCount(answer.outcome), 0);
    for (const [oldest, answer] of this.#cache) {
      if (this.#cache.size <= MAX_CACHED_REPORTS && rows <= MAX_CACHED_ROWS) break;
      rows -= rowCount(answer.outcome);
      this.#cache.delete(oldest);
    }
  }
}

function rowCount(outcome: ReportOutcome): number {
  return outcome.kind === 'ok' ? outcome.report.rows.length : 0;
}

function toOutcome(task: AggregateTask, generatedMs: number, found: AggregateOutcome): ReportOutcome {
  if (found.kind === 'failed') return found;
  if (found.kind === 'rejected') return { kind: 'rejected', problem: found.problem };
  const { by, from, to } = task;
  return {
    kind: 'ok',
    report: {
      by,
      from: isoTime(from),
      to: isoTime(to),
      generated: new Date(generatedMs).toISOString(),
      rows: found.rows,
      waiting: found.waiting,
    },
  };
}
