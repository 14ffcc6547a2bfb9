import type { UsageReport, WaitingBucket } from '../api.ts';
import { BarChart } from './charts.ts';
import { byId, bytesElement, colourSwatch, countElement, createElement, fillTable, setText } from './dom.ts';
import {
  PLACEHOLDER,
  formatBytes,
  formatClock,
  formatCompact,
  formatCount,
  formatShare,
  toSentence,
} from './format.ts';
import { fetchJson } from './requests.ts';
import {
  USAGE_PERIODS,
  sum,
  toPeriodRange,
  toSeries,
  toWaitingBars,
  visibleMoods,
  waitingSummary,
} from './usage-series.ts';
import type { UsagePeriod, UsagePeriodRange, UsageSeries } from './usage-series.ts';

const GRANULARITY_NAMES = { hour: 'Hour', day: 'Day', month: 'Month' } as const;

const PERIOD_NAMES: Readonly<Record<UsagePeriod, string>> = {
  day: 'the last 24 hours',
  week: 'the last 7 days',
  year: 'the last 12 months',
};

/** The last report of a period, with its range. */
interface LoadedReport {
  readonly range: UsagePeriodRange;
  readonly report: UsageReport;
}

/** Transfers, bytes and waiting times of a period. After a failed request the previous report stays. */
export class UsageView {
  readonly #nowMs: () => number;
  readonly #reports = new Map<UsagePeriod, LoadedReport>();
  readonly #section = byId('usage', HTMLElement);
  readonly #recordsPlot = byId('records-plot', HTMLElement);
  readonly #bytesPlot = byId('bytes-plot', HTMLElement);
  readonly #records = new BarChart(this.#recordsPlot, formatCompact, formatCount);
  readonly #bytes = new BarChart(this.#bytesPlot, formatBytes, formatBytes);
  /** The selected period is in the URL fragment, so that reloads and bookmarks keep it. */
  #period: UsagePeriod = USAGE_PERIODS.find((name) => location.hash === `#${name}`) ?? 'day';
  /** Why the last request failed, in a sentence; null if it succeeded. */
  #problem: string | null = null;

  /** @param nowMs the server's clock */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    for (const radio of document.querySelectorAll<HTMLInputElement>('input[name=period]')) {
      radio.checked = radio.value === this.#period;
      radio.addEventListener('change', () => {
        this.#period = USAGE_PERIODS.find((name) => name === radio.value) ?? this.#period;
        history.replaceState(null, '', `#${this.#period}`);
        this.#show();
      });
    }
    this.#show();
  }

  /**
   * Loads the reports of all periods, the selected one first. They are loaded one after the other, because
   * each may make the server read a large database.
   *
   * @returns whether all succeeded
   */
  async load(): Promise<boolean> {
    const nowMs = this.#nowMs();
    const first = this.#period;
    for (const period of [first, ...USAGE_PERIODS.filter((other) => other !== first)]) {
      const range = toPeriodRange(period, nowMs);
      const outcome = await fetchJson<UsageReport>(`usage.json?${toQueryString(range)}`);
      if (outcome.kind === 'ok') this.#reports.set(period, { range, report: outcome.value });
      this.#problem = outcome.kind === 'ok' ? null : outcome.problem;
      this.#show();
      if (outcome.kind === 'problem') return false;
    }
    return true;
  }

  #show(): void {
    for (const period of USAGE_PERIODS) showPeriodCard(period, this.#reports.get(period));
    const notice = byId('usage-notice', HTMLElement);
    this.#section.classList.toggle('is-stale', this.#problem !== null);
    notice.hidden = this.#problem === null;
    setText(notice, this.#problem === null ? '' : toSentence(this.#problem));
    const loaded = this.#reports.get(this.#period);
    const asOf = loaded === undefined ? '' : `as of ${formatClock(Date.parse(loaded.report.generated))}`;
    setText(byId('usage-as-of', HTMLElement), asOf);
    // Without a report, the axes show the range that will be requested.
    const range = loaded?.range ?? toPeriodRange(this.#period, this.#nowMs());
    this.#showReport(range, loaded?.report);
    byId('usage-csv', HTMLAnchorElement).href = `usage.csv?${toQueryString(range)}`;
    byId('usage-json', HTMLAnchorElement).href = `usage.json?${toQueryString(range)}`;
  }

  #showReport(range: UsagePeriodRange, report: UsageReport | undefined): void {
    const isKnown = report !== undefined;
    const series = toSeries(range, report?.rows ?? []);
    const shown = visibleMoods(series);
    const labels = range.buckets.map((bucket) => bucket.label);
    const titles = range.buckets.map((bucket) => bucket.title);
    this.#records.show({
      labels,
      titles,
      layers: shown.map(({ mood, records }) => ({ ...mood, values: records })),
    });
    this.#bytes.show({
      labels,
      titles,
      layers: [{ name: 'relayed', colour: '--accent', values: series.bytes }],
    });
    this.#describe(range, series, isKnown);
    byId('legend', HTMLElement).replaceChildren(
      ...shown.map(({ mood }) => {
        const item = createElement('li');
        item.append(colourSwatch(mood.colour), mood.name);
        return item;
      }),
    );
    fillTable(
      byId('records-table', HTMLTableElement),
      [GRANULARITY_NAMES[range.by], ...shown.map(({ mood }) => mood.name)],
      titles.map((title, bar) => [title, ...shown.map(({ records }) => countElement(records[bar] ?? 0))]),
    );
    fillTable(
      byId('bytes-table', HTMLTableElement),
      [GRANULARITY_NAMES[range.by], 'Bytes'],
      titles.map((title, bar) => [title, bytesElement(series.bytes[bar] ?? 0)]),
    );
    for (const details of this.#section.querySelectorAll('details, .moods, .waits')) {
      details.classList.toggle('is-unknown', !isKnown);
    }
    const waiting = report?.waiting ?? [];
    setText(byId('moods-sentence', HTMLElement), isKnown ? moodSummary(series) : PLACEHOLDER);
    setText(byId('waits-sentence', HTMLElement), isKnown ? waitingSummary(waiting) : PLACEHOLDER);
    fillMoodTable(series);
    fillWaitingTable(waiting);
  }

  /** Describes the charts for screen readers, and replaces empty charts with a text. */
  #describe(range: UsagePeriodRange, series: UsageSeries, isKnown: boolean): void {
    const during = PERIOD_NAMES[range.period];
    const nothing = isKnown ? `No records in ${during}.` : 'No data yet.';
    const records = `${formatCount(series.totalRecords)} records in ${during}, ${formatCount(series.transfers)} of them transfers, by ${range.by}`;
    const bytes = `${formatBytes(series.totalBytes)} in ${during}, by ${range.by}`;
    setText(byId('bytes-hint', HTMLElement), isKnown ? `by ${range.by}, in UTC` : PLACEHOLDER);
    this.#recordsPlot.setAttribute('aria-label', series.totalRecords === 0 ? nothing : records);
    this.#bytesPlot.setAttribute('aria-label', series.totalBytes === 0 ? nothing : bytes);
    for (const [id, total] of [
      ['records-empty', series.totalRecords],
      ['bytes-empty', series.totalBytes],
    ] as const) {
      const element = byId(id, HTMLElement);
      element.hidden = total > 0;
      setText(element, nothing);
    }
  }
}

/** The query of `usage.json` and `usage.csv`. */
function toQueryString({ by, fromMs, toMs }: UsagePeriodRange): URLSearchParams {
  return new URLSearchParams({
    by,
    from: new Date(fromMs).toISOString(),
    to: new Date(toMs).toISOString(),
  });
}

function showPeriodCard(period: UsagePeriod, loaded: LoadedReport | undefined): void {
  const transfers = byId(`${period}-transfers`, HTMLElement);
  const bytes = byId(`${period}-bytes`, HTMLElement);
  if (loaded === undefined) {
    setText(transfers, PLACEHOLDER);
    setText(bytes, PLACEHOLDER);
    return;
  }
  const series = toSeries(loaded.range, loaded.report.rows);
  transfers.replaceChildren(countElement(series.transfers));
  bytes.replaceChildren(bytesElement(series.totalBytes));
}

function moodSummary({ transfers, totalRecords }: UsageSeries): string {
  if (totalRecords === 0) return 'No records.';
  const records = totalRecords === 1 ? '1 record' : `${formatCount(totalRecords)} records`;
  return `${formatShare(transfers, totalRecords)} of ${records} are transfers.`;
}

/** All moods with their meaning, number of records and bytes. */
function fillMoodTable(series: UsageSeries): void {
  const rows = series.moods
    .filter(({ mood, totalRecords }) => mood.name !== 'other' || totalRecords > 0)
    .map(({ mood, totalRecords, totalBytes }) => {
      const name = createElement('div', '', 'mood');
      name.append(
        colourSwatch(mood.colour),
        createElement('span', mood.name),
        createElement('small', mood.meaning),
      );
      return [
        name,
        countElement(totalRecords),
        formatShare(totalRecords, series.totalRecords),
        bytesElement(totalBytes),
      ];
    });
  fillTable(byId('moods-table', HTMLTableElement), ['Mood', 'Records', 'Share', 'Bytes'], rows);
}

/** The distribution of waiting times, each with a bar between its label and its share. */
function fillWaitingTable(buckets: readonly WaitingBucket[]): void {
  const total = sum(buckets.map(({ records }) => records));
  const rows = toWaitingBars(buckets).map(({ label, records, share }) => {
    const track = createElement('div', '', 'track');
    const fill = createElement('div', '', 'fill');
    fill.style.width = `${100 * share}%`;
    track.append(fill);
    const count = countElement(records);
    count.className = 'soft';
    return [label, track, formatShare(records, total), count];
  });
  fillTable(byId('waits-table', HTMLTableElement), ['Waited', '', 'Share', 'Transfers'], rows);
}
