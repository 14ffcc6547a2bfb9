type Transport = 'tcp' | 'unix' | 'websocket' | 'link';
type ByTransport<T> = Readonly<Record<Transport, T>>;

/**
 * What the relay's metrics are made of. "Since the start" is a count that never goes back. The status port is in none
 * of it, and the relay's own tests only have a place among the connections of the moment.
 */
export interface MetricValues {
  /** Clients that were let in since the start. */
  readonly accepted: ByTransport<number>;
  /** Clients that were let in and have ended since the start; two for a pair. */
  readonly ended: Readonly<
    Record<'happy' | 'lonely' | 'redundant' | 'impatient' | 'errory' | 'empty', ByTransport<number>>
  >;
  /** Clients that were not let in since the start. */
  readonly rejected: Readonly<Record<'connections' | 'waiting' | 'address' | 'quota' | 'shutdown', number>>;
  /** Connections whose place was given to a client from another network since the start, by what they did. */
  readonly evicted: Readonly<Record<'handshake' | 'waiting' | 'closing', number>>;
  /** Clients that never came to wait or be paired since the start. */
  readonly handshakeFailures: Readonly<
    Record<
      'disconnected' | 'timeout' | 'bad_line' | 'overlong_line' | 'early_bytes' | 'text' | 'http' | 'tls',
      number
    >
  >;
  /** Clients that were let in, passed on to another relay and have ended since the start; that relay knows how. */
  readonly forwardedTotal: ByTransport<number>;
  /** Clients whose pairs are at another relay now. */
  readonly forwardedClients: number;
  /** Connections now, whatever they do. */
  readonly connections: number;
  readonly maxConnections: number;
  readonly waiting: number;
  readonly paired: number;
  /** Pairs made since the start. */
  readonly pairs: number;
  /** Bytes relayed since the start, by the transport that they came from and then by the one that they went to. */
  readonly relayedBytes: ByTransport<ByTransport<number>>;
  /** Bytes held now for receivers that do not keep up. */
  readonly bufferedBytes: number;
  /** Seconds since the start in which directions of pairs were not read, all of them together. */
  readonly pausedSeconds: Readonly<Record<'backpressure' | 'rateLimit', number>>;
  /** Null: there is none. */
  readonly quota: {
    readonly usedBytes: number;
    readonly limitBytes: number;
    /** Milliseconds since the epoch. */
    readonly resetsAtMs: number;
  } | null;
  /** Usage records since the start, by where they go. */
  readonly records: Readonly<
    Record<'database' | 'log', { readonly written: number; readonly dropped: number }>
  >;
  /** Records since the start that the rate limit kept from the database and the log. */
  readonly suppressedRecords: Readonly<
    Record<'happy' | 'lonely' | 'redundant' | 'impatient' | 'errory' | 'empty', number>
  >;
  /** Records that wait for the database. */
  readonly queuedRecords: number;
  /** Clients are taken in. */
  readonly ready: boolean;
  readonly draining: boolean;
  /** Null: this relay is alone. */
  readonly cluster: {
    /** The coordinator answers. */
    readonly isUp: boolean;
    /** Tokens that are this relay's, as the coordinator knows it. */
    readonly leases: number;
    /** Commands to the coordinator since the start. */
    readonly commands: number;
    /** Claims that turned out to be another relay's since the start. */
    readonly leasesLost: number;
    /** Looks at the coordinator since the start that found a relay with another secret. */
    readonly secretMismatches: number;
    /** Calls to other relays since the start. */
    readonly linkAttempts: number;
    readonly linkFailures: Readonly<
      Record<'version' | 'secret' | 'not_a_relay' | 'tls' | 'address' | 'unreachable' | 'timeout', number>
    >;
  } | null;
}
