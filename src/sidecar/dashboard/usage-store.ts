import type { UsageReport } from '../api.ts';
import { fetchJson } from './requests.ts';
import { USAGE_PERIODS, toPeriodRange } from './periods.ts';
import type { UsagePeriod, UsagePeriodRange } from './periods.ts';

/** The last report of a period, with its range. */
export interface LoadedReport {
  readonly range: UsagePeriodRange;
  readonly report: UsageReport;
}

/** The reports of all periods. After an error the previous report stays. */
export class UsageStore {
  readonly #loaded = new Map<UsagePeriod, LoadedReport>();
  readonly #onChange: () => void;
  #problem: string | null = null;

  /** @param onChange called after each response */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  get(period: UsagePeriod): LoadedReport | null {
    return this.#loaded.get(period) ?? null;
  }

  /** Why the last request failed, in a sentence; null if it succeeded. */
  get problem(): string | null {
    return this.#problem;
  }

  /**
   * Loads the reports one after the other, because each may make the server read a large database.
   *
   * @param first the visible period
   * @param nowMs the server's clock
   * @returns whether all succeeded
   */
  async load(first: UsagePeriod, nowMs: number): Promise<boolean> {
    for (const period of [first, ...USAGE_PERIODS.filter((other) => other !== first)]) {
      const range = toPeriodRange(period, nowMs);
      const outcome = await fetchJson<UsageReport>(`usage.json?${toQueryString(range)}`);
      if (outcome.kind === 'ok') this.#loaded.set(period, { range, report: outcome.value });
      this.#problem = outcome.kind === 'ok' ? null : outcome.problem;
      this.#onChange();
      if (outcome.kind === 'problem') return false;
    }
    return true;
  }
}

/** The query of `usage.json` and `usage.csv`. */
export function toQueryString({ by, fromMs, toMs }: UsagePeriodRange): string {
  const query = new URLSearchParams({
    by,
    from: new Date(fromMs).toISOString(),
    to: new Date(toMs).toISOString(),
  });
  return query.toString();
}
