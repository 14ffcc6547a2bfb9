import type { LiveHistory, LiveStatus, UsageReport, WaitingBucket } from '../api.ts';
import { BarChart } from './bar-chart.ts';
import type { BarChartData, Layer } from './bar-chart.ts';
import { byId, bytesElement, colourSwatch, countElement, createElement, fillTable, setText } from './dom.ts';
import {
  PLACEHOLDER,
  formatBytes,
  formatClock,
  formatCompact,
  formatCount,
  formatCounted,
  formatShare,
  toSentence,
} from './format.ts';
import { fetchJson } from './requests.ts';
import { gapCaption, gapNotes, isInGap, toBands, toGaps, toObservation } from './usage-gaps.ts';
import type { Gap, Observation } from './usage-gaps.ts';
import { USAGE_PERIODS, formatDate, toPeriodRange } from './usage-periods.ts';
import type { BillingPeriod, UsagePeriod, UsagePeriodRange } from './usage-periods.ts';
import { chartTitle, sum, toSeries, toWaitingBars, visibleMoods, waitingSummary } from './usage-series.ts';
import type { UsageSeries } from './usage-series.ts';

const GRANULARITY_NAMES = { hour: 'Hour', day: 'Day', month: 'Month' } as const;

/** Allowed distances between two labels: hours are 3 or 6 apart rather than 5, days of a month 7. */
const LABEL_STEPS = { hour: [1, 2, 3, 4, 6, 12, 24], day: [1, 2, 3, 5, 7, 14], month: [1, 2, 3, 4, 6, 12] };

const PERIOD_NAMES: Readonly<Record<UsagePeriod, string>> = {
  day: 'the last 24 hours',
  week: 'the last 7 days',
  month: 'the last 30 days',
  billing: 'this billing period',
  year: 'the last 12 months',
};

/** Range of the history of the relay's answers: all that the sidecar has, in seconds. */
const HISTORY_S = 86_400;

/** Minimum time between two requests for it, in milliseconds. It has some 10,000 points. */
const HISTORY_INTERVAL_MS = 55_000;

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
  #selected: UsagePeriod = USAGE_PERIODS.find((name) => location.hash === `#${name}`) ?? 'day';
  #billing: BillingPeriod | null = null;
  #sidecarStartedMs: number | null = null;
  #observation: Observation | null = null;
  #observedAtMs = Number.NEGATIVE_INFINITY;
  /** Why the last request failed, in a sentence; null if it succeeded. */
  #problem: string | null = null;

  /** @param nowMs the server's clock */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    for (const radio of document.querySelectorAll<HTMLInputElement>('input[name=period]')) {
      radio.addEventListener('change', () => {
        this.#selected = USAGE_PERIODS.find((name) => name === radio.value) ?? this.#selected;
        history.replaceState(null, '', `#${this.#selected}`);
        this.#show();
      });
    }
    this.#show();
  }

  /** Takes over what the next `load` needs to know. A relay that is down keeps its billing period. */
  showLive({ relay, sidecar }: LiveStatus): void {
    this.#sidecarStartedMs = Date.parse(sidecar.started);
    if (relay.state === 'down') return;
    const before = this.#billing;
    this.#billing =
      relay.quota === null
        ? null
        : { startMs: Date.parse(relay.quota.period_started), endMs: Date.parse(relay.quota.resets) };
    if (before?.startMs === this.#billing?.startMs && before?.endMs === this.#billing?.endMs) return;
    this.#reports.delete('billing');
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
    await this.#observe();
    const first = this.#period;
    for (const period of [first, ...USAGE_PERIODS.filter((other) => other !== first)]) {
      const range = toPeriodRange(period, nowMs, this.#billing);
      if (range === null) continue;
      const outcome = await fetchJson<UsageReport>(`usage.json?${toQueryString(range)}`);
      if (outcome.kind === 'ok') this.#reports.set(period, { range, report: outcome.value });
      this.#problem = outcome.kind === 'ok' ? null : outcome.problem;
      this.#show();
      if (outcome.kind === 'problem') return false;
    }
    return true;
  }

  /** Loads the outages that the sidecar has seen. Without them, the charts show fewer gaps. */
  async #observe(): Promise<void> {
    if (this.#sidecarStartedMs === null || performance.now() - this.#observedAtMs < HISTORY_INTERVAL_MS)
      return;
    const outcome = await fetchJson<LiveHistory>(`live-history.json?seconds=${HISTORY_S}`);
    if (outcome.kind === 'problem') return;
    this.#observedAtMs = performance.now();
    this.#observation = toObservation(outcome.value, this.#sidecarStartedMs);
  }

  /** The selected period. A relay without a quota has no billing period. */
  get #period(): UsagePeriod {
    return this.#selected === 'billing' && this.#billing === null ? 'day' : this.#selected;
  }

  #show(): void {
    const period = this.#period;
    for (const radio of document.querySelectorAll<HTMLInputElement>('input[name=period]'))
      radio.checked = radio.value === period;
    byId('billing-period', HTMLElement).hidden = this.#billing === null;
    for (const one of USAGE_PERIODS) showPeriodCard(one, this.#reports.get(one));
    const notice = byId('usage-notice', HTMLElement);
    this.#section.classList.toggle('is-stale', this.#problem !== null);
    notice.hidden = this.#problem === null;
    setText(notice, this.#problem === null ? '' : toSentence(this.#problem));
    const loaded = this.#reports.get(period);
    const asOf = loaded === undefined ? '' : `as of ${formatClock(Date.parse(loaded.report.generated))}`;
    setText(byId('usage-as-of', HTMLElement), asOf);
    // Without a report, the axes show the range that will be requested.
    const range = loaded?.range ?? toPeriodRange(period, this.#nowMs(), this.#billing);
    if (range === null) return;
    this.#showReport(range, loaded?.report);
    byId('usage-csv', HTMLAnchorElement).href = `usage.csv?${toQueryString(range)}`;
    byId('usage-json', HTMLAnchorElement).href = `usage.json?${toQueryString(range)}`;
  }

  #showReport(range: UsagePeriodRange, report: UsageReport | undefined): void {
    const isKnown = report !== undefined;
    const series = toSeries(range, report?.rows ?? []);
    const shown = visibleMoods(series);
    const gaps = isKnown ? toGaps(range, report, series.records, this.#observation) : [];
    const nowMs = isKnown ? Date.parse(report.generated) : this.#nowMs();
    const charts = toChartData(range, gaps, nowMs);
    const areRecordsClipped = this.#records.show({
      ...charts,
      layers: shown.map(({ mood, records }) => ({ name: mood.label, colour: mood.colour, values: records })),
    });
    const relayed: Layer = { name: 'relayed', colour: '--accent', values: series.bytes };
    const areBytesClipped = this.#bytes.show({ ...charts, layers: [relayed] });
    setText(byId('records-title', HTMLElement), chartTitle(series));
    setText(byId('records-note', HTMLElement), chartNote(areRecordsClipped, gaps));
    setText(byId('bytes-note', HTMLElement), chartNote(areBytesClipped, gaps));
    this.#describe(range, series, isKnown);
    const legend = byId('legend', HTMLElement);
    legend.hidden = shown.length === 1;
    legend.replaceChildren(
      ...shown.map(({ mood }) => {
        const item = createElement('li');
        item.append(colourSwatch(mood.colour), mood.label);
        if (mood.name !== mood.label) item.append(createElement('small', mood.name));
        return item;
      }),
    );
    const past = [...range.buckets.entries()].filter(([, { startMs }]) => startMs <= nowMs);
    const isUnknown = past.map(([bar, bucket]) => series.records[bar] === 0 && isInGap(bucket, gaps, nowMs));
    fillTable(
      byId('records-table', HTMLTableElement),
      [GRANULARITY_NAMES[range.by], ...shown.map(({ mood }) => mood.label)],
      past.map(([bar, { title }]) => [
        title,
        ...shown.map(({ records }) => (isUnknown[bar] ? PLACEHOLDER : countElement(records[bar] ?? 0))),
      ]),
    );
    fillTable(
      byId('bytes-table', HTMLTableElement),
      [GRANULARITY_NAMES[range.by], 'Bytes'],
      past.map(([bar, { title }]) => [
        title,
        isUnknown[bar] ? PLACEHOLDER : bytesElement(series.bytes[bar] ?? 0),
      ]),
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
    const transfers =
      series.transfers === 1 ? '1 of them a transfer' : `${formatCount(series.transfers)} of them transfers`;
    const records = `${formatCounted(series.totalRecords, 'record')} in ${during}, ${transfers}, by ${range.by}`;
    const bytes = `${formatBytes(series.totalBytes)} in ${during}, by ${range.by}`;
    const hint = `Finished transfers by ${range.by}, in UTC`;
    setText(byId('bytes-hint', HTMLElement), isKnown ? hint : PLACEHOLDER);
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

/** The bars and gaps, which both charts share. Bars in the future have no tooltip. */
function toChartData(
  range: UsagePeriodRange,
  gaps: readonly Gap[],
  nowMs: number,
): Omit<BarChartData, 'layers'> {
  return {
    bars: range.buckets.map((bucket) => ({
      ...bucket,
      title: bucket.startMs > nowMs ? '' : bucket.title,
      notes: gapNotes(bucket, gaps),
    })),
    labelSteps: LABEL_STEPS[range.by],
    bands: toBands(range, gaps),
  };
}

/** What a reader has to know about a chart. */
function chartNote(isClipped: boolean, gaps: readonly Gap[]): string {
  const clipping = isClipped ? 'Broken bars exceed the scale; values are above them or in the table. ' : '';
  return (clipping + gapCaption(gaps)).trim();
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
  const noun = byId(`${period}-noun`, HTMLElement);
  const bytes = byId(`${period}-bytes`, HTMLElement);
  if (loaded === undefined) {
    setText(transfers, PLACEHOLDER);
    setText(noun, 'transfers');
    setText(bytes, PLACEHOLDER);
    return;
  }
  const series = toSeries(loaded.range, loaded.report.rows);
  transfers.replaceChildren(countElement(series.transfers));
  setText(noun, series.transfers === 1 ? 'transfer' : 'transfers');
  const since = period === 'billing' ? ` since ${formatDate(loaded.range.fromMs)}` : '';
  bytes.replaceChildren(bytesElement(series.totalBytes), since);
}

function moodSummary({ transfers, totalRecords }: UsageSeries): string {
  if (totalRecords === 0) return 'No records.';
  const are = totalRecords === 1 ? 'is a transfer' : 'are transfers';
  return `${formatShare(transfers, totalRecords)} of ${formatCounted(totalRecords, 'record')} ${are}. A pair is one record.`;
}

/** All outcomes with their moods and meanings, number of records and bytes. */
function fillMoodTable(series: UsageSeries): void {
  const rows = series.moods
    .filter(({ mood, totalRecords }) => mood.name !== 'other' || totalRecords > 0)
    .map(({ mood, totalRecords, totalBytes }) => {
      const name = createElement('div', '', 'mood');
      const label = createElement('span', mood.label);
      if (mood.name !== mood.label) label.append(' ', createElement('small', mood.name));
      name.append(colourSwatch(mood.colour), label, createElement('small', mood.meaning, 'meaning'));
      return [
        name,
        countElement(totalRecords),
        formatShare(totalRecords, series.totalRecords),
        bytesElement(totalBytes),
      ];
    });
  fillTable(byId('moods-table', HTMLTableElement), ['Outcome', 'Records', 'Share', 'Bytes'], rows);
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
