import type { RejectReason } from '../limits/rejection-history.ts';

/** ISO 8601 in UTC, for example `2026-11-23T05:00:00.000Z`. */
type IsoTime = string;

/**
 * Whether clients are served.
 *
 * - `refusing`: a client was rejected within the last minute, because a limit was reached
 * - `over_quota`: the quota is used up; all clients are rejected
 * - `draining`: the relay lets pairs finish and only accepts partners of waiting clients
 */
export type ServiceState = 'serving' | 'refusing' | 'over_quota' | 'draining';

/** Body of `/status.json` on the status port. All of it is in memory: a request costs no disk access. */
export interface RelayStatus {
  readonly version: string;
  /** Name of the host, or of the container. */
  readonly host: string;
  /** Start of the process. */
  readonly started: IsoTime;
  readonly uptime_seconds: number;
  readonly state: ServiceState;
  readonly draining: boolean;
  /**
   * The limit that rejects clients now; of several, the one with the most rejections. Null if no client was
   * rejected within the last minute.
   */
  readonly refusing: {
    readonly reason: 'connections' | 'waiting' | 'address';
    /** The variable that sets the limit. */
    readonly variable: string;
    /** The first rejection of this episode, which ends after a minute without one. */
    readonly since: IsoTime;
    readonly last: IsoTime;
  } | null;
  /** Open client connections in any state. */
  readonly connections: number;
  readonly pairs: number;
  /** Distinct tokens with waiting clients. */
  readonly waiting: number;
  /** In force, with `auto` resolved. Null: no limit. */
  readonly limits: { readonly connections: number | null; readonly waiting: number | null };
  /** Bytes relayed since the start, including running pairs; rounded up to 10 kB if records are blurred. */
  readonly relayed_bytes: number;
  /** Average of about the last second. */
  readonly bytes_per_second: number;
  /** Clients rejected since the start, by reason. */
  readonly refused: Readonly<Record<RejectReason, number>>;
  /** Clients rejected within the last 60 minutes. */
  readonly refused_last_hour: Readonly<Record<RejectReason, number>>;
  /** Null without a quota. */
  readonly quota: {
    /** In the current period; rounded like `relayed_bytes`. */
    readonly used_bytes: number;
    readonly limit_bytes: number;
    readonly period_started: IsoTime;
    /** Start of the time that `used_bytes` covers; after `period_started` if the quota is newer. */
    readonly counts_since: IsoTime;
    /** Start of the next period. */
    readonly resets: IsoTime;
    readonly exhausted: boolean;
  } | null;
  /** One per listener with TLS. */
  readonly certificates: readonly {
    /** Like `tcp 443` or `tcp 127.0.0.1:443`. */
    readonly listener: string;
    readonly expires: IsoTime;
    readonly expired: boolean;
    /** Why the certificate could not be reloaded or renewed, in a sentence. */
    readonly problem: string | null;
  }[];
  /** Current problems that the operator should act on. */
  readonly warnings: readonly OperatorWarning[];
  /** Records for the usage database. */
  readonly usage: {
    /** Not written yet. */
    readonly queued: number;
    /** Lost since the start. */
    readonly dropped: number;
    /** Why the database is not written now, in a sentence. */
    readonly problem: string | null;
  };
}

/** A problem that the operator should act on. */
export interface OperatorWarning {
  /** Stable name, the `event` of its log line. */
  readonly event: string;
  /** Plain text in lower case, without a full stop. */
  readonly message: string;
}
