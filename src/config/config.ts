import type { BoundEndpoint, Endpoint } from '../net/endpoint.ts';
import type { Cidr } from '../net/trusted-proxies.ts';
import type { ClusterConfig } from './cluster-config.ts';
import type { InheritedSockets } from './inherited-sockets.ts';
import type { CountRate } from './units.ts';

/** pino's levels; `silent` is off. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

export type LogLevel = (typeof LOG_LEVELS)[number];

/** Everything the operator decides, checked and with its units in the names. */
export interface Config {
  readonly listen: {
    readonly raw: readonly Endpoint[];
    readonly websocket: readonly Endpoint[];
    readonly status: readonly BoundEndpoint[];
    /** What `systemd:` endpoints mean. */
    readonly inherited: InheritedSockets;
  };
  readonly usage: {
    readonly databasePath: string | null;
    readonly logFd: number | null;
    /** 0 is off. */
    readonly blurSeconds: number;
    /** Age at which records of the database are deleted; null: they are kept. */
    readonly retentionMs: number | null;
  };
  /** Null is off. */
  readonly timeouts: {
    readonly handshakeMs: number | null;
    readonly waitMs: number | null;
    readonly idleMs: number | null;
  };
  /** Null is off, or as many as come. */
  readonly limits: {
    /** `auto`: what the descriptors of the process allow. */
    readonly maxConnections: number | 'auto' | null;
    /** `auto`: half of the connections. */
    readonly maxWaiting: number | 'auto' | null;
    readonly connectionsPerAddress: number | null;
    readonly newConnectionsPerAddress: CountRate | null;
    readonly pairBytesPerSecond: number | null;
    readonly totalBytesPerSecond: number | null;
    readonly pairBytes: number | null;
  };
  /** Null: as many bytes as come. */
  readonly quota: {
    readonly limitBytes: number;
    readonly period: 'month' | 'day';
    readonly resetDay: number;
    readonly counts: 'relayed' | 'in+out';
    /** Where it is kept. */
    readonly path: string;
    /** Time that pairs have left when it is spent; null: until they end. */
    readonly graceMs: number | null;
  } | null;
  /** Whose word about where clients come from is taken. */
  readonly trustedProxies: readonly Cidr[];
  readonly logLevel: LogLevel;
  /** What may be held for receivers that do not keep up, above a small amount for each. */
  readonly bufferMemoryBytes: number;
  readonly drain: {
    /** How long partners of waiting clients are let in. */
    readonly delayMs: number;
    /** How long pairs may go on. */
    readonly timeoutMs: number;
  };
  /** Null: this relay is alone. */
  readonly cluster: ClusterConfig | null;
}
