import type { UsageReport } from '../api.ts';
import { fetchJson } from './fetch-json.ts';
import { USAGE_PERIODS, toPeriodRange } from './periods.ts';
import type { UsagePeriod, UsagePeriodRange } from './periods.ts';

/** What is known of one view: the last report that came, with the range it answers. */
export interface LoadedReport {
  readonly range: UsagePeriodRange;
  readonly report: UsageReport;
}

/** The reports of all views. One that fails leaves the last one in place. */
export class UsageStore {
  readonly #loaded = new Map<UsagePeriod, LoadedReport>();
  readonly #onChange: () => void;
  #problem: string | null = null;

  /** @param changed called after each answer */
  constructor(changed: () => void) {
    this.#onChange = changed;
  }

  get(view: UsagePeriod): LoadedReport | null {
    return this.#loaded.get(view) ?? null;
  }

  /** Why the last question had no answer, in a sentence; null when it had. */
  get problem(): string | null {
    return this.#problem;
  }

  /**
   * Asks for all views one after the other: each may cost the server a walk through a large database.
   *
   * @param first the one that is looked at
   * @param nowMs the server's clock
   * @returns whether all were answered
   */
  async load(first: UsagePeriod, nowMs: number): Promise<boolean> {
    for (const view of [first, ...USAGE_PERIODS.filter((other) => other !== first)]) {
      const range = toPeriodRange(view, nowMs);
      const outcome = await fetchJson<UsageReport>(`usage.json?${toQueryString(range)}`);
      if (outcome.kind === 'ok') this.#loaded.set(view, { range, report: outcome.value });
      this.#problem = outcome.kind === 'ok' ? null : outcome.problem;
      this.#onChange();
      if (outcome.kind === 'problem') return false;
    }
    return true;
  }
}

/** As `usage.json` and `usage.csv` take it. */
export function toQueryString({ by, fromMs, toMs }: UsagePeriodRange): string {
  const query = new URLSearchParams({
    by,
    from: new Date(fromMs).toISOString(),
    to: new Date(toMs).toISOString(),
  });
  return query.toString();
}
