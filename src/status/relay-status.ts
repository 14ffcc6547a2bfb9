/** What the relay's status port says of it in `/status.json`. */
export interface RelayStatus {
  /** When the process started; ISO 8601, UTC. */
  readonly started: string;
  readonly uptime_seconds: number;
  /** It lets pairs finish and takes nobody in. */
  readonly draining: boolean;
  readonly pairs: number;
  /** Distinct tokens somebody waits under. */
  readonly waiting: number;
  /** Bytes relayed since the start, pairs that still run included; to 10 kB upwards where records are blurred. */
  readonly relayed_bytes: number;
  /** Over about the last second. */
  readonly bytes_per_second: number;
}
