import type { Health, LiveStatus } from '../api.ts';
import { byId, bytesElement, countElement, createElement, setText } from './dom.ts';
import {
  formatClock,
  formatDateTime,
  formatDuration,
  formatListener,
  formatRate,
  splitRate,
  toSentence,
} from './format.ts';
import { Sparkline } from './live-chart.ts';
import { RateHistory } from './live-state.ts';
import type { Headline } from './live-state.ts';
import { fetchJson } from './requests.ts';

/** Shows the state of the relay in the card at the top and in the title of the browser tab. */
export function showHeadline({ tone, title, detail, tabTitle }: Headline): void {
  byId('status', HTMLElement).dataset['tone'] = tone;
  setText(byId('headline', HTMLElement), title);
  setText(byId('headline-detail', HTMLElement), detail);
  document.title = `${tabTitle} · Transit Relay`;
}

/** One pair of listeners in `GET /health/transfer`, tested in both directions. */
interface TestedTransfer {
  readonly from: string;
  readonly to: string;
  readonly ok: boolean;
  readonly milliseconds: number;
  readonly problem: string | null;
}

interface TransferHealth extends Health {
  readonly transfers?: readonly TestedTransfer[];
}

/** The status of a failed test, which has a full response. */
const HTTP_UNAVAILABLE = 503;

/** Sets up the button that sends real bytes through the relay and shows the result. */
export function initSelfTest(): void {
  const button = byId('test-button', HTMLButtonElement);
  const result = byId('test-result', HTMLElement);
  async function test(): Promise<void> {
    button.disabled = true;
    setText(button, 'Testing…');
    result.replaceChildren(createElement('p', 'Sending bytes through the relay…', 'soft'));
    result.hidden = false;
    const outcome = await fetchJson<TransferHealth>('health/transfer', { accepts: [HTTP_UNAVAILABLE] });
    if (outcome.kind === 'ok') result.replaceChildren(...selfTestElements(outcome.value));
    else result.replaceChildren(createElement('p', toSentence(outcome.problem), 'problem'));
    setText(button, 'Test a transfer');
    button.disabled = false;
  }
  button.addEventListener('click', () => void test());
}

function selfTestElements({ ok, problem, transfers = [] }: TransferHealth): HTMLElement[] {
  const verdict = ok ? 'The relay transferred all bytes correctly.' : toSentence(problem ?? 'it failed');
  const sentence = createElement('p', verdict, ok ? 'fine' : 'problem');
  if (transfers.length === 0) return [sentence];
  const list = createElement('ul');
  list.append(...transfers.map(transferElement));
  return [sentence, list];
}

function transferElement({ from, to, ok, milliseconds, problem }: TestedTransfer): HTMLElement {
  const item = createElement('li', '', ok ? 'fine' : 'problem');
  const result = ok ? `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)}\u00a0ms` : (problem ?? 'failed');
  item.title = `${from}, ${to}`;
  item.append(
    createElement('span', `${formatListener(from)} and ${formatListener(to)}`),
    createElement('b', result),
  );
  return item;
}

/** Live data, updated every second. Old data stays visible, marked as stale. */
export class NowView {
  readonly #section = byId('now', HTMLElement);
  readonly #stale = byId('now-stale', HTMLElement);
  readonly #plot = byId('rate-plot', HTMLElement);
  readonly #history = new RateHistory();
  readonly #sparkline = new Sparkline(this.#plot);

  /** @param lastUpMs when the relay was last up, by the server's clock; null if never */
  show({ now, relay }: LiveStatus, lastUpMs: number | null): void {
    const nowSeconds = Date.parse(now) / 1000;
    this.#history.add(nowSeconds, relay.state === 'down' ? null : relay.bytes_per_second);
    this.#sparkline.show(this.#history, nowSeconds);
    const peak = formatRate(this.#history.peak);
    setText(byId('rate-peak', HTMLElement), `peak ${peak}`);
    this.#plot.setAttribute('aria-label', `Bytes per second over the last 5 minutes, at most ${peak}`);
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
    byId('rate', HTMLElement).replaceChildren(rate);
    byId('pairs', HTMLElement).replaceChildren(countElement(relay.pairs));
    byId('waiting', HTMLElement).replaceChildren(countElement(relay.waiting));
    byId('relayed', HTMLElement).replaceChildren(bytesElement(relay.relayed_bytes));
    setText(byId('uptime', HTMLElement), formatDuration(relay.uptime_seconds));
    setText(byId('started', HTMLElement), `since ${formatDateTime(Date.parse(relay.started))}`);
  }

  /** Marks the shown data as stale. */
  showStale(lastUpMs: number | null): void {
    this.#section.classList.add('is-stale');
    this.#stale.hidden = lastUpMs === null;
    if (lastUpMs !== null) setText(this.#stale, `as of ${formatClock(lastUpMs)}`);
  }
}
