import type { LiveStatus } from '../api.ts';
import { formatClock } from './format.ts';

/** What the page knows of its server. */
export type ConnectionState =
  | { readonly kind: 'loading' }
  | { readonly kind: 'answered'; readonly live: LiveStatus }
  /** `reached`: it answers, but not with what was asked for. */
  | { readonly kind: 'unreachable'; readonly reached: boolean; readonly problem: string };

export type Tone = 'loading' | 'good' | 'warn' | 'bad';

export interface Headline {
  readonly tone: Tone;
  /** Changes only when the state does: a screen reader says it. */
  readonly title: string;
  readonly detail: string;
  /** In the browser's tab. */
  readonly tabTitle: string;
}

/**
 * The state of everything in a sentence.
 *
 * @param lastUpMs when the relay was last seen up, by the server's clock; null when it never was
 */
export function toHeadline(connection: ConnectionState, lastUpMs: number | null): Headline {
  const asOf = lastUpMs === null ? '' : ` What you see is as of ${formatClock(lastUpMs)}.`;
  if (connection.kind === 'loading') {
    return { tone: 'loading', title: 'Asking the relay…', detail: 'One moment.', tabTitle: 'Transit Relay' };
  }
  if (connection.kind === 'unreachable') {
    return {
      tone: 'bad',
      title: connection.reached ? 'The sidecar has a problem' : 'The sidecar does not answer',
      detail: `${toSentence(connection.problem)} Whether the relay is up can’t be said; this page goes on trying.${asOf}`,
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
      detail: 'It lets the transfers that run finish and takes nobody in.',
      tabTitle: 'Draining',
    };
  }
  return {
    tone: 'good',
    title: 'The relay is up',
    detail: 'It lets clients in.',
    tabTitle: 'Up',
  };
}

/** With a capital letter and a full stop, whatever came. */
export function toSentence(problem: string): string {
  const text = problem.trim();
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/u.test(capital) ? capital : `${capital}.`;
}
