import type { RelayConfig } from '../config/relay-config.ts';
import type { RejectReason } from '../limits/rejection-history.ts';
import type { Log } from '../process/logging.ts';
import type { AdmissionControl } from '../sessions/admission-control.ts';

/** Time between two log lines about one reason, in milliseconds. */
const LOG_INTERVAL_MS = 60_000;

/** As in the configuration, by length in milliseconds. */
const RATE_UNITS: Readonly<Record<number, string>> = { 1000: 's', 60_000: 'min', 3_600_000: 'h' };

/** The limit that clients have reached. */
export interface ReachedLimit {
  /** Which limit, in a few words. */
  readonly problem: string;
  /** The variable that sets it. Null: clients are not rejected because of a limit. */
  readonly variable: string | null;
  /** Its value, with `auto` resolved. */
  readonly value: number | string | null;
}

/** The limit that clients have reached if they are rejected for `reason` now. */
export function reachedLimit(
  reason: RejectReason,
  admission: AdmissionControl,
  { limits, quota }: Pick<RelayConfig, 'limits' | 'quota'>,
): ReachedLimit {
  switch (reason) {
    case 'connections': {
      const problem = admission.isOutOfDescriptors ? 'no file descriptors left' : 'connection limit reached';
      return { problem, variable: 'RELAY_MAX_CONNECTIONS', value: admission.maxConnections };
    }
    case 'waiting':
      return {
        problem: 'limit of waiting clients reached',
        variable: 'RELAY_MAX_WAITING',
        value: admission.maxWaiting,
      };
    case 'address': {
      const { exceededAddressLimit: exceeded } = admission;
      const { connectionsPerAddress, newConnectionsPerAddress: rate } = limits;
      return exceeded === 'newConnectionsPerAddress' && rate !== null
        ? {
            problem: 'limit of new connections per address reached',
            variable: 'RELAY_NEW_CONNECTIONS_PER_ADDRESS',
            value: `${rate.count}/${RATE_UNITS[rate.perMs] ?? `${rate.perMs} ms`}`,
          }
        : {
            problem: 'limit of connections per address reached',
            variable: 'RELAY_MAX_CONNECTIONS_PER_ADDRESS',
            value: connectionsPerAddress,
          };
    }
    case 'quota':
      return { problem: 'quota used up', variable: 'RELAY_QUOTA', value: quota?.limitBytes ?? null };
    case 'shutdown':
      return { problem: 'the relay is stopping', variable: null, value: null };
  }
}

/** Rejections for one reason that are not logged yet. */
interface Unlogged {
  count: number;
  readonly timer: NodeJS.Timeout;
}

/**
 * Logs rejected clients: the first one for a reason at once, then the number of further ones each minute, as long
 * as there are any.
 */
export class RejectionLog {
  readonly #log: Log;
  readonly #limitOf: (reason: RejectReason) => ReachedLimit;
  /** By reason, for a minute after each log line. */
  readonly #unlogged = new Map<RejectReason, Unlogged>();

  constructor(log: Log, limitOf: (reason: RejectReason) => ReachedLimit) {
    this.#log = log;
    this.#limitOf = limitOf;
  }

  count(reason: RejectReason): void {
    const unlogged = this.#unlogged.get(reason);
    if (unlogged === undefined) this.#write(reason, 1);
    else unlogged.count += 1;
  }

  /** Logs the last counts. */
  close(): void {
    for (const [reason, { count, timer }] of this.#unlogged) {
      clearTimeout(timer);
      if (count > 0) this.#logLine(reason, count);
    }
    this.#unlogged.clear();
  }

  #write(reason: RejectReason, count: number): void {
    this.#logLine(reason, count);
    const timer = setTimeout(() => this.#onInterval(reason), LOG_INTERVAL_MS).unref();
    this.#unlogged.set(reason, { count: 0, timer });
  }

  #onInterval(reason: RejectReason): void {
    const count = this.#unlogged.get(reason)?.count ?? 0;
    this.#unlogged.delete(reason);
    if (count > 0) this.#write(reason, count);
  }

  #logLine(reason: RejectReason, count: number): void {
    const { problem, variable, value } = this.#limitOf(reason);
    const limit = variable === null ? {} : { variable, limit: value };
    const level = reason === 'shutdown' ? 'info' : 'warn';
    this.#log[level]({ event: 'clients_rejected', reason, count, ...limit }, `clients rejected: ${problem}`);
  }
}
