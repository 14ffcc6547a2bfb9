import { BarChart } from './charts.ts';
import { byId, bytesElement, colourSwatch, countElement, createElement, setText } from './dom.ts';
import {
  PLACEHOLDER,
  formatBytes,
  formatClock,
  formatCompact,
  formatCount,
  formatShare,
  toSentence,
} from './format.ts';
import { USAGE_PERIODS, toPeriodRange } from './periods.ts';
import type { UsagePeriod, UsagePeriodRange } from './periods.ts';
import { toSeries, toWaitingBars, visibleMoods, waitingSummary } from './usage-series.ts';
import type { UsageSeries, WaitingBar } from './usage-series.ts';
import { toQueryString } from './usage-store.ts';
import type { LoadedReport, UsageStore } from './usage-store.ts';

/** Fills a table; the first cell of each row is its header. */
export function fillTable(
  table: HTMLTableElement,
  columns: readonly string[],
  rows: readonly (readonly (string | Node)[])[],
): void {
  const head = createElement('thead');
  const headRow = createElement('tr');
  for (const column of columns) {
    const cell = createElement(column === '' ? 'td' : 'th', column);
    if (column !== '') cell.scope = 'col';
    headRow.append(cell);
  }
  head.append(headRow);
  const body = createElement('tbody');
  for (const [first = '', ...others] of rows) {
    const row = createElement('tr');
    const header = createElement('th');
    header.scope = 'row';
    header.append(first);
    row.append(header);
    for (const other of others) {
      const cell = createElement('td');
      cell.append(other);
      row.append(cell);
    }
    body.append(row);
  }
  table.replaceChildren(head, body);
}

/** All moods with their meaning, number of records and bytes. */
export function fillMoodTable(table: HTMLTableElement, series: UsageSeries): void {
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
  fillTable(table, ['Mood', 'Records', 'Share', 'Bytes'], rows);
}

/** The distribution of waiting times, each with a bar between its label and its share. */
export function fillWaitingTable(table: HTMLTableElement, bars: readonly WaitingBar[]): void {
  const total = bars.reduce((sum, bar) => sum + bar.records, 0);
  const rows = bars.map(({ label, records, share }) => {
    const track = createElement('div', '', 'track');
    const fill = createElement('div', '', 'fill');
    fill.style.width = `${100 * share}%`;
    track.append(fill);
    const count = countElement(records);
    count.className = 'soft';
    return [label, track, formatShare(records, total), count];
  });
  fillTable(table, ['Waited', '', 'Share', 'Transfers'], rows);
}

const GRANULARITY_NAMES = { hour: 'Hour', day: 'Day', month: 'Month' } as const;

const PERIOD_NAMES: Readonly<Record<UsagePeriod, string>> = {
  day: 'the last 24 hours',
  week: 'the last 7 days',
  year: 'the last 12 months',
};

/** Transfers, bytes and waiting times of a period. */
export class UsageView {
  readonly #notice = byId('usage-notice', HTMLElement);
  readonly #asOf = byId('usage-as-of', HTMLElement);
  readonly #section = byId('usage', HTMLElement);
  readonly #recordsPlot = byId('records-plot', HTMLElement);
  readonly #bytesPlot = byId('bytes-plot', HTMLElement);
  readonly #records = new BarChart(this.#recordsPlot, formatCompact, formatCount);
  readonly #bytes = new BarChart(this.#bytesPlot, formatBytes, formatBytes);

  /** @param nowMs the server's clock, for the axis of a period without a report */
  show(store: UsageStore, view: UsagePeriod, nowMs: number): void {
    for (const each of USAGE_PERIODS) showPeriodCard(each, store.get(each));
    const loaded = store.get(view);
    this.#section.classList.toggle('is-stale', store.problem !== null);
    this.#notice.hidden = store.problem === null;
    setText(this.#notice, store.problem === null ? '' : toSentence(store.problem));
    setText(this.#asOf, loaded === null ? '' : `as of ${formatClock(Date.parse(loaded.report.generated))}`);
    const range = loaded?.range ?? toPeriodRange(view, nowMs);
    this.#showReport(range, loaded);
    byId('usage-csv', HTMLAnchorElement).href = `usage.csv?${toQueryString(range)}`;
    byId('usage-json', HTMLAnchorElement).href = `usage.json?${toQueryString(range)}`;
  }

  #showReport(range: UsagePeriodRange, loaded: LoadedReport | null): void {
    const series = toSeries(range, loaded?.report.rows ?? []);
    const shown = visibleMoods(series);
    const labels = range.buckets.map((bucket) => bucket.label);
    const titles = range.buckets.map((bucket) => bucket.title);
    const layers = shown.map(({ mood, records }) => ({
      name: mood.name,
      colour: mood.colour,
      values: records,
    }));
    this.#records.show({ labels, titles, layers });
    this.#bytes.show({
      labels,
      titles,
      layers: [{ name: 'relayed', colour: '--accent', values: series.bytes }],
    });
    this.#describe(range, series, loaded !== null);
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
    fillMoodTable(byId('moods-table', HTMLTableElement), series);
    setText(byId('moods-sentence', HTMLElement), loaded === null ? PLACEHOLDER : moodSummary(series));
    const waiting = loaded?.report.waiting ?? [];
    for (const details of this.#section.querySelectorAll('details, .moods, .waits')) {
      details.classList.toggle('is-unknown', loaded === null);
    }
    setText(byId('waits-sentence', HTMLElement), loaded === null ? PLACEHOLDER : waitingSummary(waiting));
    fillWaitingTable(byId('waits-table', HTMLTableElement), toWaitingBars(waiting));
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

function moodSummary({ transfers, totalRecords }: UsageSeries): string {
  if (totalRecords === 0) return 'No records.';
  const records = totalRecords === 1 ? '1 record' : `${formatCount(totalRecords)} records`;
  return `${formatShare(transfers, totalRecords)} of ${records} are transfers.`;
}

function showPeriodCard(view: UsagePeriod, loaded: LoadedReport | null): void {
  const transfers = byId(`${view}-transfers`, HTMLElement);
  const bytes = byId(`${view}-bytes`, HTMLElement);
  if (loaded === null) {
    setText(transfers, PLACEHOLDER);
    setText(bytes, PLACEHOLDER);
    return;
  }
  const series = toSeries(loaded.range, loaded.report.rows);
  transfers.replaceChildren(countElement(series.transfers));
  bytes.replaceChildren(bytesElement(series.totalBytes));
}
