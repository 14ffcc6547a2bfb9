import type { LiveStatus } from '../api.ts';
import { Sparkline } from './charts.ts';
import { byId, bytesElement, countElement, createElement, setText } from './dom.ts';
import { formatClock, formatDuration, formatDateTime, formatRate, splitRate } from './format.ts';
import { RateHistory } from './live-state.ts';

/** Live data, updated every second. Old data stays visible, marked as stale. */
export class NowView {
  readonly #section = byId('now', HTMLElement);
  readonly #stale = byId('now-stale', HTMLElement);
  readonly #rate = byId('rate', HTMLElement);
  readonly #plot = byId('rate-plot', HTMLElement);
  readonly #peak = byId('rate-peak', HTMLElement);
  readonly #pairs = byId('pairs', HTMLElement);
  readonly #waiting = byId('waiting', HTMLElement);
  readonly #relayed = byId('relayed', HTMLElement);
  readonly #uptime = byId('uptime', HTMLElement);
  readonly #started = byId('started', HTMLElement);
  readonly #history = new RateHistory();
  readonly #sparkline = new Sparkline(this.#plot);

  /** @param lastUpMs when the relay was last up, by the server's clock; null if never */
  show(live: LiveStatus, lastUpMs: number | null): void {
    const nowSeconds = Date.parse(live.now) / 1000;
    const { relay } = live;
    this.#history.add(nowSeconds, relay.state === 'up' ? relay.bytes_per_second : null);
    this.#sparkline.show(this.#history, nowSeconds);
    this.#describeHistory();
    if (relay.state === 'down') {
      this.showStale(lastUpMs);
      return;
    }
    this.#section.classList.remove('is-stale');
    this.#stale.hidden = true;
    const { number, unit } = splitRate(relay.bytes_per_second);
    const rate = createElement('data', number);
    rate.value = String(relay.bytes_per_second);
    rate.append(createElement('span', ` ${unit}`, 'unit'));
    this.#rate.replaceChildren(rate);
    this.#pairs.replaceChildren(countElement(relay.pairs));
    this.#waiting.replaceChildren(countElement(relay.waiting));
    this.#relayed.replaceChildren(bytesElement(relay.relayed_bytes));
    setText(this.#uptime, formatDuration(relay.uptime_seconds));
    setText(this.#started, `since ${formatDateTime(Date.parse(relay.started))}`);
  }

  /** Marks the shown data as stale. */
  showStale(lastUpMs: number | null): void {
    this.#section.classList.add('is-stale');
    this.#stale.hidden = lastUpMs === null;
    if (lastUpMs !== null) setText(this.#stale, `as of ${formatClock(lastUpMs)}`);
  }

  #describeHistory(): void {
    const peak = formatRate(this.#history.peak);
    setText(this.#peak, `peak ${peak}`);
    this.#plot.setAttribute('aria-label', `Bytes per second over the last 5 minutes, at most ${peak}`);
  }
}
