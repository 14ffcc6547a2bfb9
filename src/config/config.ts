import type { Endpoint } from '../net/endpoint.ts';

/** pino's levels; `silent` is off. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

export type LogLevel = (typeof LOG_LEVELS)[number];

/** Everything the operator decides, checked and with its units in the names. */
export interface Config {
  readonly listen: {
    readonly raw: readonly Endpoint[];
    readonly websocket: readonly Endpoint[];
    readonly status: readonly Endpoint[];
  };
  readonly usage: {
    readonly databasePath: string | null;
    readonly logFd: number | null;
    /** 0 is off. */
    readonly blurSeconds: number;
  };
  /** Null is off. */
  readonly timeouts: {
    readonly handshakeMs: number | null;
    readonly waitMs: number | null;
    readonly idleMs: number | null;
  };
  readonly logLevel: LogLevel;
  /** What may be held for receivers that do not keep up, above a small amount for each. */
  readonly bufferMemoryBytes: number;
  readonly drainTimeoutMs: number;
}

/** A value that can't be used, with what could be. */
export interface Fault {
  readonly variable: string;
  readonly value: string;
  /** What is wrong with it; null where what is accepted says it all. */
  readonly problem: string | null;
  readonly accepted: string;
}

/** The sentence an operator reads. */
export function formatFault(fault: Fault): string {
  const problem = fault.problem === null ? '' : `: ${fault.problem}`;
  return `${fault.variable}=${JSON.stringify(fault.value)} can't be used${problem}. Accepted: ${fault.accepted}.`;
}
