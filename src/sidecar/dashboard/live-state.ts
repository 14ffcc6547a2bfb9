import type { LiveStatus, RelayStatus } from '../api.ts';
import { formatClock, formatCount, formatCounted, formatDay, formatPast, toSentence } from './format.ts';
import { HISTORY_S } from './rate-history.ts';
import { sum } from './usage-series.ts';

type RefusalReason = NonNullable<RelayStatus['refusing']>['reason'];

/** The state of the connection to the sidecar. */
type ConnectionState =
  | { readonly kind: 'answered'; readonly live: LiveStatus }
  /** `reached`: the sidecar answered with an error. */
  | { readonly kind: 'unreachable'; readonly reached: boolean; readonly problem: string };

/** Each has its own colour and symbol. `good` is only for relays that refuse no clients. */
type Tone = 'good' | 'warn' | 'quota' | 'drain' | 'bad' | 'unknown';

export interface Headline {
  readonly tone: Tone;
  /** Changes only with the state, because screen readers announce it. */
  readonly title: string;
  readonly detail: string;
  /** In the title of the browser tab. */
  readonly tabTitle: string;
}

/** An answer of a sidecar whose relay is up. */
type AnsweredStatus = LiveStatus & { readonly relay: RelayStatus };

/** What the page remembers of the time when the relay was up. */
export interface LastUp {
  /** By the server's clock, in milliseconds; null if the page does not know of any time. */
  readonly timeMs: number | null;
  /** The numbers on the page are from that time. */
  readonly isShown: boolean;
}

/** The overall state in one sentence. */
export function toHeadline(connection: ConnectionState, lastUp: LastUp): Headline {
  if (connection.kind === 'unreachable') {
    const asOf =
      lastUp.timeMs === null || !lastUp.isShown ? '' : ` The numbers are from ${formatClock(lastUp.timeMs)}.`;
    return {
      tone: 'bad',
      title: connection.reached ? 'The sidecar has a problem' : 'The sidecar does not answer',
      detail: `${toSentence(connection.problem)} The state of the relay is unknown; this page keeps trying.${asOf}`,
      tabTitle: 'No answer',
    };
  }
  const { relay, now, sidecar } = connection.live;
  const nowMs = Date.parse(now);
  switch (relay.state) {
    case 'serving':
      return toServiceHeadline({ ...connection.live, relay });
    case 'refusing':
      return {
        tone: 'warn',
        title: 'Serving, but refusing some clients',
        detail: describeRefusal(relay, nowMs),
        tabTitle: 'Refusing',
      };
    case 'over_quota':
      return {
        tone: 'quota',
        title:
          relay.quota === null
            ? 'Quota used up'
            : `Quota used up until ${formatDay(Date.parse(relay.quota.resets), nowMs)}`,
        detail:
          'New clients are refused until then. To serve them sooner, raise RELAY_QUOTA and restart the relay.',
        tabTitle: 'Quota used up',
      };
    case 'draining':
      return {
        tone: 'drain',
        title: 'Draining before it stops',
        detail: 'Running transfers can finish, and waiting clients can still be paired. Others are refused.',
        tabTitle: 'Draining',
      };
    case 'down':
      return {
        tone: 'bad',
        title: 'The relay is down',
        detail: `${toSentence(relay.problem)} ${describeOutage(lastUp, nowMs, Date.parse(sidecar.started))}`,
        tabTitle: 'Down',
      };
    default:
      // A newer relay may have states that this page does not know. They must not look good.
      return {
        tone: 'unknown',
        title: 'The state of the relay is unknown',
        detail: 'The relay is newer than the sidecar.',
        tabTitle: 'Unknown',
      };
  }
}

function toServiceHeadline({ relay, now, warnings }: AnsweredStatus): Headline {
  const { version, refused_last_hour: refused, certificates } = relay;
  // Only relays before 1.0 have no version.
  if (version === '')
    return {
      tone: 'unknown',
      title: 'The relay is up',
      detail: 'This version of the relay does not report whether it refuses clients.',
      tabTitle: 'Up',
    };
  const expired = certificates.find((certificate) => certificate.expired);
  if (expired !== undefined)
    return {
      tone: 'warn',
      title: 'Serving, but a certificate has expired',
      detail: `Clients with TLS reject the certificate of ${expired.listener}. It expired: ${formatPast(Date.parse(expired.expires), Date.parse(now))}.`,
      tabTitle: 'Certificate expired',
    };
  const count = sum(Object.values(refused));
  const warningCount = relay.warnings.length + warnings.length;
  return {
    tone: 'good',
    title: 'Serving clients',
    detail:
      count === 0
        ? 'No client was refused in the last hour.'
        : `No client is refused now; ${formatCount(count)} ${count === 1 ? 'was' : 'were'} in the last hour.`,
    tabTitle: warningCount === 0 ? 'Serving' : `Serving, ${formatCounted(warningCount, 'warning')}`,
  };
}

function describeRefusal({ refusing, limits }: RelayStatus, nowMs: number): string {
  if (refusing === null) return 'A limit is reached.';
  const { reason, variable, since } = refusing;
  return `${toRefusalReason(reason, limits)}, since ${formatPast(Date.parse(since), nowMs)}. ${variable} sets the limit.`;
}

function toRefusalReason(reason: RefusalReason, limits: RelayStatus['limits']): string {
  switch (reason) {
    case 'connections':
      return limits.connections === null
        ? 'All connections are in use'
        : `All ${formatCount(limits.connections)} connections are in use`;
    case 'waiting':
      return limits.waiting === null
        ? 'Too many clients wait for their partners'
        : formatCounted(
            limits.waiting,
            'client already waits for its partner',
            'clients already wait for their partners',
          );
    case 'address':
      return 'Some addresses have used up their share';
    default:
      return 'A limit is reached';
  }
}

function describeOutage({ timeMs, isShown }: LastUp, nowMs: number, sidecarStartedMs: number): string {
  if (timeMs !== null) {
    const numbers = isShown ? ' The numbers are from then.' : '';
    return `Down since ${formatPast(timeMs, nowMs)}.${numbers}`;
  }
  return nowMs - sidecarStartedMs < HISTORY_S * 1000
    ? `It has not answered since the sidecar started at ${formatPast(sidecarStartedMs, nowMs)}.`
    : 'It has not answered for more than an hour.';
}

/**
 * The name of the relay's host. Docker names containers by their ids. Instead of such an id, the host of the page's
 * address is shown.
 */
export function toDisplayedHost(host: string, pageHost: string): string {
  return host === '' || /^[0-9a-f]{12}$/u.test(host) ? pageHost : host;
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
