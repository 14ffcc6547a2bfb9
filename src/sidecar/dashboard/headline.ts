import type { LiveStatus } from '../api.ts';
import { formatClock } from './format.ts';

/** The state of the connection to the sidecar. */
export type ConnectionState =
  | { readonly kind: 'loading' }
  | { readonly kind: 'answered'; readonly live: LiveStatus }
  /** `reached`: the sidecar answered with an error. */
  | { readonly kind: 'unreachable'; readonly reached: boolean; readonly problem: string };

export type Tone = 'loading' | 'good' | 'warn' | 'bad';

export interface Headline {
  readonly tone: Tone;
  /** Changes only with the state, because screen readers announce it. */
  readonly title: string;
  readonly detail: string;
  /** Title of the browser tab. */
  readonly tabTitle: string;
}

/**
 * The overall state in one sentence.
 *
 * @param lastUpMs when the relay was last up, by the server's clock; null if never
 */
export function toHeadline(connection: ConnectionState, lastUpMs: number | null): Headline {
  const asOf = lastUpMs === null ? '' : ` The data below is from ${formatClock(lastUpMs)}.`;
  if (connection.kind === 'loading') {
    return { tone: 'loading', title: 'Asking the relay…', detail: 'One moment.', tabTitle: 'Transit Relay' };
  }
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
  return {
    tone: 'good',
    title: 'The relay is up',
    detail: 'It accepts clients.',
    tabTitle: 'Up',
  };
}

/** Adds a capital letter and a full stop. */
export function toSentence(problem: string): string {
  const text = problem.trim();
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/u.test(capital) ? capital : `${capital}.`;
}
