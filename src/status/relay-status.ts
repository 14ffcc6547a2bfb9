/** What the relay's status port says of it in `/status.json`. */
export interface RelayStatus {
  /** When the process started; ISO 8601, UTC. */
  readonly started: string;
  readonly uptime_seconds: number;
  /** It lets pairs finish and takes nobody in, but for partners of clients that wait. */
  readonly draining: boolean;
  /** Open connections of clients, whatever they do. */
  readonly connections: number;
  readonly pairs: number;
  /** Distinct tokens somebody waits under. */
  readonly waiting: number;
  /** Bytes relayed since the start, pairs that still run included; to 10 kB upwards where records are blurred. */
  readonly relayed_bytes: number;
  /** Over about the last second. */
  readonly bytes_per_second: number;
  /** Clients that were not let in since the start, by reason. */
  readonly refused: Readonly<Record<'connections' | 'waiting' | 'address' | 'quota' | 'shutdown', number>>;
  /** Null where there is none. */
  readonly quota: {
    /** In this period; as coarse as `relayed_bytes`. */
    readonly used_bytes: number;
    readonly limit_bytes: number;
    /** When the next period begins; ISO 8601, UTC. */
    readonly resets: string;
  } | null;
}
