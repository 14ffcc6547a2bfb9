import type { LiveStatus } from '../api.ts';
import { formatClock, toSentence } from './format.ts';

/** The state of the connection to the sidecar. */
type ConnectionState =
  | { readonly kind: 'answered'; readonly live: LiveStatus }
  /** `reached`: the sidecar answered with an error. */
  | { readonly kind: 'unreachable'; readonly reached: boolean; readonly problem: string };

export interface Headline {
  readonly tone: 'good' | 'warn' | 'bad';
  /** Changes only with the state, because screen readers announce it. */
  readonly title: string;
  readonly detail: string;
  /** Title of the browser tab, before the name of the page. */
  readonly tabTitle: string;
}

/**
 * The overall state in one sentence.
 *
 * @param lastUpMs when the relay was last up, by the server's clock; null if never
 */
export function toHeadline(connection: ConnectionState, lastUpMs: number | null): Headline {
  const asOf = lastUpMs === null ? '' : ` The data below is from ${formatClock(lastUpMs)}.`;
  if (connection.kind === 'unreachable') {
    return {
      tone: 'bad',
      title: connection.reached ? 'The sidecar has a problem' : 'The sidecar does not answer',
      detail: `${toSentence(connection.problem)} The state of the relay is unknown; this page keeps trying.${asOf}`,
      tabTitle: 'No answer',
    };
  }
  const { relay } = connection.live;
  if (relay.state === 'down') {
    return {
      tone: 'bad',
      title: 'The relay is down',
      detail: toSentence(relay.problem) + asOf,
      tabTitle: 'Down',
    };
  }
  if (relay.draining) {
    return {
      tone: 'warn',
      title: 'The relay is draining',
      detail: 'Running transfers can finish; it accepts no new clients.',
      tabTitle: 'Draining',
    };
  }
  return { tone: 'good', title: 'The relay is up', detail: 'It accepts clients.', tabTitle: 'Up' };
}

/** Delay after the first, second, … failure in a row, in milliseconds. The last one repeats. */
const BACKOFF_DELAYS_MS = [1000, 2000, 4000, 8000, 15_000, 30_000] as const;

/** The delay before the next poll after this many failures in a row, in milliseconds. */
export function backoffMs(failuresInARow: number): number {
  return BACKOFF_DELAYS_MS[Math.min(failuresInARow, BACKOFF_DELAYS_MS.length) - 1] ?? BACKOFF_DELAYS_MS[0];
}

/** Whether the usage database may have new records after the second of two polls. */
export function hasNewRecords(before: LiveStatus, after: LiveStatus): boolean {
  if (before.database.state !== after.database.state) return true;
  if (before.relay.state === 'down' || after.relay.state === 'down')
    return before.relay.state !== after.relay.state;
  // Records without relayed bytes are shown with the next regular poll.
  const hasEndedPair = after.relay.pairs < before.relay.pairs;
  const hasMissedPair = after.relay.pairs === 0 && after.relay.relayed_bytes > before.relay.relayed_bytes;
  return hasEndedPair || hasMissedPair || after.relay.started !== before.relay.started;
}

/** Time range of the sparkline, in seconds. */
export const HISTORY_S = 300;

/**
 * Samples further apart have a gap between them, in seconds: the page was hidden, or there was no response.
 */
const MAX_GAP_S = 10;

/** The rates of the last minutes while the page was open. Times are seconds since the epoch. */
export class RateHistory {
  #times: number[] = [];
  #rates: (number | null)[] = [];

  /** @param rate bytes per second; null if unknown */
  add(timeSeconds: number, rate: number | null): void {
    const last = this.#times.at(-1);
    if (last !== undefined && timeSeconds <= last) return;
    if (last !== undefined && timeSeconds - last > MAX_GAP_S) this.#push(last + 1, null);
    this.#push(timeSeconds, rate);
    const stale = this.#times.findIndex((time) => time >= timeSeconds - HISTORY_S);
    this.#times.splice(0, stale);
    this.#rates.splice(0, stale);
  }

  get times(): readonly number[] {
    return this.#times;
  }

  /** One per time. */
  get rates(): readonly (number | null)[] {
    return this.#rates;
  }

  /** The highest known rate; 0 if there is none. */
  get peak(): number {
    return this.#rates.reduce<number>((peak, rate) => Math.max(peak, rate ?? 0), 0);
  }

  #push(timeSeconds: number, rate: number | null): void {
    this.#times.push(timeSeconds);
    this.#rates.push(rate);
  }
}
