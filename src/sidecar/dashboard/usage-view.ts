import { BarChart } from './bar-chart.ts';
import { byId, bytesOf, countOf, make, setText, swatch } from './dom.ts';
import { NOTHING, formatBytes, formatClock, formatCompact, formatCount, formatShare } from './format.ts';
import { asSentence } from './headline.ts';
import { VIEWS, rangeOf } from './periods.ts';
import type { View, ViewRange } from './periods.ts';
import { fillMoods, fillTable, fillWaits } from './tables.ts';
import { moodsShown, toSeries } from './usage-series.ts';
import type { UsageSeries } from './usage-series.ts';
import { queryOf } from './usage-store.ts';
import type { Loaded, UsageStore } from './usage-store.ts';
import { waitingBars, waitingSentence } from './waiting.ts';

const BAR_NAMES = { hour: 'Hour', day: 'Day', month: 'Month' } as const;

const VIEW_NAMES: Readonly<Record<View, string>> = {
  day: 'the last 24 hours',
  week: 'the last 7 days',
  year: 'the last 12 months',
};

/** Transfers, bytes and waiting over a period. */
export class UsageView {
  readonly #notice = byId('usage-notice', HTMLElement);
  readonly #asOf = byId('usage-as-of', HTMLElement);
  readonly #section = byId('usage', HTMLElement);
  readonly #recordsPlot = byId('records-plot', HTMLElement);
  readonly #bytesPlot = byId('bytes-plot', HTMLElement);
  readonly #records = new BarChart(this.#recordsPlot, { axis: formatCompact, value: formatCount });
  readonly #bytes = new BarChart(this.#bytesPlot, { axis: formatBytes, value: formatBytes });

  /** @param nowMs the server's clock, for the axis of a view of which nothing is known */
  show(store: UsageStore, view: View, nowMs: number): void {
    for (const each of VIEWS) showCard(each, store.of(each));
    const loaded = store.of(view);
    this.#section.classList.toggle('is-stale', store.problem !== null);
    this.#notice.hidden = store.problem === null;
    setText(this.#notice, store.problem === null ? '' : asSentence(store.problem));
    setText(this.#asOf, loaded === null ? '' : `as of ${formatClock(Date.parse(loaded.report.generated))}`);
    const range = loaded?.range ?? rangeOf(view, nowMs);
    this.#showReport(range, loaded);
    byId('usage-csv', HTMLAnchorElement).href = `usage.csv?${queryOf(range)}`;
    byId('usage-json', HTMLAnchorElement).href = `usage.json?${queryOf(range)}`;
  }

  #showReport(range: ViewRange, loaded: Loaded | null): void {
    const series = toSeries(range, loaded?.report.rows ?? []);
    const shown = moodsShown(series);
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
        const item = make('li');
        item.append(swatch(mood.colour), mood.name);
        return item;
      }),
    );
    fillTable(
      byId('records-table', HTMLTableElement),
      [BAR_NAMES[range.by], ...shown.map(({ mood }) => mood.name)],
      titles.map((title, bar) => [title, ...shown.map(({ records }) => countOf(records[bar] ?? 0))]),
    );
    fillTable(
      byId('bytes-table', HTMLTableElement),
      [BAR_NAMES[range.by], 'Bytes'],
      titles.map((title, bar) => [title, bytesOf(series.bytes[bar] ?? 0)]),
    );
    fillMoods(byId('moods-table', HTMLTableElement), series);
    setText(byId('moods-sentence', HTMLElement), loaded === null ? NOTHING : moodsSentence(series));
    const waiting = loaded?.report.waiting ?? [];
    for (const details of this.#section.querySelectorAll('details, .moods, .waits')) {
      details.classList.toggle('is-unknown', loaded === null);
    }
    setText(byId('waits-sentence', HTMLElement), loaded === null ? NOTHING : waitingSentence(waiting));
    fillWaits(byId('waits-table', HTMLTableElement), waitingBars(waiting));
  }

  /** The charts in words, and words instead of empty charts. */
  #describe(range: ViewRange, series: UsageSeries, isKnown: boolean): void {
    const during = VIEW_NAMES[range.view];
    const nothing = isKnown ? `Nothing happened in ${during}.` : 'No data yet.';
    const records = `${formatCount(series.totalRecords)} records in ${during}, ${formatCount(series.transfers)} of them transfers, by ${range.by}`;
    const bytes = `${formatBytes(series.totalBytes)} in ${during}, by ${range.by}`;
    setText(byId('bytes-hint', HTMLElement), isKnown ? `by ${range.by}, in UTC` : NOTHING);
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

function moodsSentence({ transfers, totalRecords }: UsageSeries): string {
  if (totalRecords === 0) return 'Nobody came.';
  const records = totalRecords === 1 ? '1 record' : `${formatCount(totalRecords)} records`;
  return `${formatShare(transfers, totalRecords)} of ${records} are transfers.`;
}

function showCard(view: View, loaded: Loaded | null): void {
  const transfers = byId(`${view}-transfers`, HTMLElement);
  const bytes = byId(`${view}-bytes`, HTMLElement);
  if (loaded === null) {
    setText(transfers, NOTHING);
    setText(bytes, NOTHING);
    return;
  }
  const series = toSeries(loaded.range, loaded.report.rows);
  transfers.replaceChildren(countOf(series.transfers));
  bytes.replaceChildren(bytesOf(series.totalBytes));
}
