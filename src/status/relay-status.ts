/** Body of `/status.json` on the status port. */
export interface RelayStatus {
  /** Start of the process; ISO 8601, UTC. */
  readonly started: string;
  readonly uptime_seconds: number;
  /** The relay lets pairs finish and only accepts partners of waiting clients. */
  readonly draining: boolean;
  /** Open client connections in any state. */
  readonly connections: number;
  readonly pairs: number;
  /** Distinct tokens with waiting clients. */
  readonly waiting: number;
  /** Bytes relayed since the start, including running pairs; rounded up to 10 kB if records are blurred. */
  readonly relayed_bytes: number;
  /** Average of about the last second. */
  readonly bytes_per_second: number;
  /** Clients rejected since the start, by reason. */
  readonly refused: Readonly<Record<'connections' | 'waiting' | 'address' | 'quota' | 'shutdown', number>>;
  /** Null without a quota. */
  readonly quota: {
    /** In the current period; rounded like `relayed_bytes`. */
    readonly used_bytes: number;
    readonly limit_bytes: number;
    /** Start of the next period; ISO 8601, UTC. */
    readonly resets: string;
  } | null;
}
