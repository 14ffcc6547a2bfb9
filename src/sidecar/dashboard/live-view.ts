import type { LiveHistory, LiveStatus, RelayStatus } from '../api.ts';
import { byId, bytesElement, countElement, createElement, setText } from './dom.ts';
import {
  PLACEHOLDER,
  formatClock,
  formatCount,
  formatCounted,
  formatDateTime,
  formatDuration,
  formatPast,
  formatRate,
  splitRate,
  toSentence,
} from './format.ts';
import { LiveChart } from './live-chart.ts';
import type { Headline, LastUp } from './live-state.ts';
import { RateHistory } from './rate-history.ts';
import { toConnectionsGauge, toQuotaGauge, toRefusals } from './tiles.ts';
import type { Gauge } from './tiles.ts';
import { sum } from './usage-series.ts';

/** Shows the state of the relay in the card at the top and in the title of the browser tab. */
export function showHeadline({ tone, title, detail, tabTitle }: Headline, host: string): void {
  byId('status', HTMLElement).dataset['tone'] = tone;
  setText(byId('headline', HTMLElement), title);
  setText(byId('headline-detail', HTMLElement), detail);
  document.title = `${tabTitle} · ${host} · Transit Relay`;
}

/** Warnings of the relay and of the sidecar, in this order. */
export function showWarnings({ relay, warnings: sidecarWarnings }: LiveStatus): void {
  const relayWarnings = relay.state === 'down' ? [] : relay.warnings;
  const warnings = [...relayWarnings, ...sidecarWarnings];
  const section = byId('warnings', HTMLElement);
  section.hidden = warnings.length === 0;
  setText(byId('warnings-title', HTMLElement), formatCounted(warnings.length, 'warning'));
  const list = byId('warnings-list', HTMLElement);
  const items = warnings.map(({ event, message }) => {
    const item = createElement('li');
    item.append(createElement('span', toSentence(message)), ' ', createElement('code', event));
    return item;
  });
  // Unchanged items stay, so that a selected text stays selected.
  if (
    items.map((item) => item.textContent).join('\n') !==
    [...list.children].map((item) => item.textContent).join('\n')
  )
    list.replaceChildren(...items);
}

/** Shows the host in the header and the versions in the footer. */
export function showProgram({ relay, sidecar }: LiveStatus, host: string): void {
  setText(byId('host', HTMLElement), host);
  const relayVersion = relay.state === 'down' || relay.version === '' ? '' : `Relay ${relay.version}, `;
  setText(byId('versions', HTMLElement), `${relayVersion}sidecar ${sidecar.version}`);
}

/** If no sample came for this time, older ones are loaded from the sidecar. In seconds. */
const MAX_SAMPLE_GAP_S = 10;

/** Live data, updated every second. Old data stays visible, marked as stale. */
export class NowView {
  readonly #section = byId('now', HTMLElement);
  readonly #stale = byId('now-stale', HTMLElement);
  readonly #plot = byId('rate-plot', HTMLElement);
  readonly #history = new RateHistory();
  readonly #chart = new LiveChart(this.#plot, (point) => {
    this.#pointed = point;
    this.#showNote();
  });
  #pointed: { readonly timeSeconds: number; readonly rate: number } | null = null;
  #hasNumbers = false;

  /** Whether the history lacks samples: the page was just opened, or hidden. */
  needsHistory(nowSeconds: number): boolean {
    return nowSeconds - this.#history.latest > MAX_SAMPLE_GAP_S;
  }

  loadHistory(history: LiveHistory): void {
    this.#history.load(history);
  }

  get lastUp(): LastUp {
    const { latestKnown } = this.#history;
    return { timeMs: latestKnown === null ? null : latestKnown * 1000, isShown: this.#hasNumbers };
  }

  show({ now, relay }: LiveStatus): void {
    const nowMs = Date.parse(now);
    this.#history.add(nowMs / 1000, relay.state === 'down' ? null : relay.bytes_per_second);
    this.#chart.show(this.#history, nowMs / 1000);
    const peak = formatRate(this.#history.peak?.rate ?? 0);
    this.#plot.setAttribute('aria-label', `Bytes per second over the last hour, at most ${peak}`);
    this.#showNote();
    if (relay.state === 'down') {
      this.showStale();
      return;
    }
    this.#hasNumbers = true;
    this.#section.classList.remove('is-stale');
    this.#stale.hidden = true;
    const { number, unit } = splitRate(relay.bytes_per_second);
    const rate = createElement('data', number);
    rate.value = String(relay.bytes_per_second);
    rate.append(createElement('span', ` ${unit}`, 'unit'));
    byId('rate', HTMLElement).replaceChildren(rate);
    byId('pairs', HTMLElement).replaceChildren(countElement(relay.pairs));
    setText(byId('pairs-detail', HTMLElement), relay.pairs === 1 ? 'running transfer' : 'running transfers');
    byId('waiting', HTMLElement).replaceChildren(countElement(relay.waiting));
    setText(
      byId('waiting-detail', HTMLElement),
      relay.waiting === 1 ? 'for its partner' : 'for their partners',
    );
    byId('relayed', HTMLElement).replaceChildren(bytesElement(relay.relayed_bytes));
    setText(byId('uptime', HTMLElement), formatDuration(relay.uptime_seconds));
    setText(byId('started', HTMLElement), `since ${formatDateTime(Date.parse(relay.started))}`);
    showGauge('connections', toConnectionsGauge(relay), relay.connections);
    byId('quota-tile', HTMLElement).hidden = relay.quota === null;
    if (relay.quota !== null) showGauge('quota', toQuotaGauge(relay.quota, nowMs), relay.quota.used_bytes);
    showRefusals(relay);
  }

  /** Marks the shown data as stale. */
  showStale(): void {
    const { timeMs, isShown } = this.lastUp;
    this.#section.classList.add('is-stale');
    this.#stale.hidden = timeMs === null || !isShown;
    if (timeMs !== null) setText(this.#stale, `as of ${formatClock(timeMs)}`);
  }

  /** The point under the pointer, otherwise the peak. */
  #showNote(): void {
    const { peak } = this.#history;
    const point = this.#pointed ?? peak;
    const label = this.#pointed === null ? 'Peak of the last hour: ' : '';
    const text =
      point === null
        ? 'The last hour, in UTC'
        : `${label}${formatRate(point.rate)} at ${formatPast(point.timeSeconds * 1000, this.#history.latest * 1000)}`;
    setText(byId('rate-note', HTMLElement), text);
  }
}

/** @param exact the machine-readable value */
function showGauge(id: string, { value, limit, share, tone, detail }: Gauge, exact: number): void {
  const data = createElement('data', value);
  data.value = String(exact);
  if (limit !== '') data.append(createElement('span', ` ${limit}`, 'unit'));
  byId(id, HTMLElement).replaceChildren(data);
  const bar = byId(`${id}-bar`, HTMLElement);
  bar.style.width = `${100 * (share ?? 0)}%`;
  bar.dataset['tone'] = tone;
  byId(`${id}-track`, HTMLElement).hidden = share === null;
  setText(byId(`${id}-detail`, HTMLElement), detail);
}

function showRefusals({ version, refused, refused_last_hour: lastHour }: RelayStatus): void {
  // Relays before 1.0 report only the numbers since their start.
  const isKnown = version !== '';
  const total = sum(Object.values(lastHour));
  const figure = byId('refused', HTMLElement);
  figure.replaceChildren(isKnown ? countElement(total) : PLACEHOLDER);
  figure.classList.toggle('is-warning', total > 0);
  const reasons = toRefusals(lastHour).map(({ name, count }) => {
    const line = createElement('p', '', 'reason');
    line.append(createElement('span', name), ' ', countElement(count));
    return line;
  });
  const sinceStart = createElement('p', `${formatCount(sum(Object.values(refused)))} since the start`);
  byId('refused-detail', HTMLElement).replaceChildren(...(total === 0 ? [sinceStart] : reasons));
}
