import type { Period, UsageReport } from './api.ts';
import type { JobRunner } from './job-pool.ts';
import type { AggregateOutcome, AggregateTask, UsageFailure } from './usage-messages.ts';
import { openEnd } from './usage-params.ts';
import type { UsageRange } from './usage-params.ts';
import { isoTime } from './usage-periods.ts';
import type { UsageSource } from './usage-source.ts';

/** An answer is kept for this long at least, and for ever longer the more it cost. In milliseconds. */
const KEEP_MS = 1000;

/** An answer is kept for so many times what it cost: reports then take a twentieth of one core, however often asked for. */
const KEEP_TIMES_COST = 20;

/** Answers kept at most, and how many rows they may have all together: so many take some 40 MB. */
const MAX_ANSWERS = 50;
export const MAX_KEPT_ROWS = 200_000;

/** `refused`: too much was asked for. `failed`: the database can't be read. Both say why in a sentence. */
export type ReportOutcome =
  | { readonly kind: 'ok'; readonly report: UsageReport }
  | { readonly kind: 'refused'; readonly problem: string }
  | UsageFailure;

export interface UsageReportsOptions {
  readonly source: UsageSource;
  /** Where the job runs; it stays the caller's. */
  readonly pool: JobRunner<'aggregate'>;
  /** Milliseconds since the epoch. */
  readonly clock: () => number;
}

interface Answer {
  readonly outcome: ReportOutcome;
  readonly fromMs: number;
  readonly untilMs: number;
}

/** Answers `GET /usage.json`, and asks the database no more often than that is worth. */
export class UsageReports {
  readonly #options: UsageReportsOptions;
  /** By question, the one that was asked longest ago first. */
  readonly #answers = new Map<string, Answer>();
  readonly #running = new Map<string, Promise<ReportOutcome>>();
  readonly #closing = new AbortController();

  constructor(options: UsageReportsOptions) {
    this.#options = options;
  }

  /**
   * What happened in `range`, perhaps as of a while ago: the report says when. Who asks while the same is being
   * looked up gets the same answer. Rejects with an AbortError when closed meanwhile or before.
   */
  report(range: UsageRange<Period>): Promise<ReportOutcome> {
    const question = `${range.by} ${range.from} ${range.to ?? 'now'}`;
    const kept = this.#recall(question);
    if (kept !== null) return Promise.resolve(kept);
    const shared = this.#running.get(question);
    if (shared !== undefined) return shared;
    const running = this.#ask(question, range).finally(() => this.#running.delete(question));
    this.#running.set(question, running);
    return running;
  }

  /** Ends what runs, and resolves when it has ended. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#answers.clear();
    await Promise.allSettled(this.#running.values());
  }

  #recall(question: string): ReportOutcome | null {
    const answer = this.#answers.get(question);
    if (answer === undefined) return null;
    this.#answers.delete(question);
    const nowMs = this.#options.clock();
    // A clock that was set back must not keep an answer for as long as it was wrong.
    if (nowMs < answer.fromMs || nowMs >= answer.untilMs) return null;
    this.#answers.set(question, answer);
    return answer.outcome;
  }

  async #ask(question: string, range: UsageRange<Period>): Promise<ReportOutcome> {
    const { source, pool, clock } = this.#options;
    const generatedMs = clock();
    const task: AggregateTask = {
      source,
      by: range.by,
      from: range.from,
      to: range.to ?? openEnd(generatedMs),
    };
    const signal = this.#closing.signal;
    const found: AggregateOutcome = await pool.run('aggregate', task, { signal });
    const outcome = toOutcome(task, generatedMs, found);
    this.#keep(question, outcome, found.kind === 'failed' ? 0 : found.tookMs);
    return outcome;
  }

  #keep(question: string, outcome: ReportOutcome, costMs: number): void {
    const fromMs = this.#options.clock();
    this.#answers.set(question, {
      outcome,
      fromMs,
      untilMs: fromMs + Math.max(KEEP_MS, KEEP_TIMES_COST * costMs),
    });
    let rows = [...this.#answers.values()].reduce((sum, answer) => sum + rowsOf(answer.outcome), 0);
    for (const [oldest, answer] of this.#answers) {
      if (this.#answers.size <= MAX_ANSWERS && rows <= MAX_KEPT_ROWS) break;
      rows -= rowsOf(answer.outcome);
      this.#answers.delete(oldest);
    }
  }
}

function rowsOf(outcome: ReportOutcome): number {
  return outcome.kind === 'ok' ? outcome.report.rows.length : 0;
}

function toOutcome(task: AggregateTask, generatedMs: number, found: AggregateOutcome): ReportOutcome {
  if (found.kind === 'failed') return found;
  if (found.kind === 'refused') return { kind: 'refused', problem: found.problem };
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
