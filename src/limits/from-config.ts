import type { Config } from '../config/config.ts';
import { AddressLimit } from './address-limit.ts';
import { connectionsInMemory } from './memory-limit.ts';
import type { Needs } from './memory-limit.ts';
import { connectionsThatFit } from './open-files.ts';
import { Pacer } from './pacer.ts';

/** What the configuration says of limits, as what keeps them. `clock`: milliseconds of a clock that never jumps. */

type Limits = Config['limits'];

/** More than this needs to be asked for, however much memory and however many descriptors there may be. */
const MOST_CONNECTIONS = 65_536;

/** The same where connections may use TLS. */
const MOST_TLS_CONNECTIONS = 8192;

/** What the process has. */
export interface Resources {
  readonly descriptors: number;
  readonly memoryBytes: number;
  /** `RELAY_BUFFER_MEMORY`. */
  readonly bufferBytes: number;
}

/** What a limit of connections follows from. */
export type Reason = 'RELAY_MAX_CONNECTIONS' | 'memory' | 'file descriptors' | 'default';

export interface Room {
  /** Null: as many as come. */
  readonly maxConnections: number | null;
  readonly maxWaiting: number | null;
  /** Connections that leave descriptors for everything else. */
  readonly fits: number;
  readonly follows: Reason;
}

/** How many clients there may be, where the operator leaves that to us, and how many would fit. */
export function roomOf({ maxConnections, maxWaiting }: Limits, resources: Resources, needs: Needs): Room {
  const fits = connectionsThatFit(resources.descriptors, needs.isInGroup);
  const auto = autoConnections(resources, fits, needs);
  const connections = maxConnections === 'auto' ? auto.connections : maxConnections;
  return {
    fits,
    maxConnections: connections,
    // Each that waits needs a place for its partner.
    maxWaiting: maxWaiting === 'auto' ? Math.ceil((connections ?? fits) / 2) : maxWaiting,
    follows: maxConnections === 'auto' ? auto.follows : 'RELAY_MAX_CONNECTIONS',
  };
}

/** The lowest of three limits, and which one that is. */
function autoConnections(
  { memoryBytes, bufferBytes }: Resources,
  fits: number,
  needs: Needs,
): { readonly connections: number; readonly follows: Reason } {
  const inMemory = connectionsInMemory(memoryBytes, bufferBytes, needs);
  const most = needs.hasTls ? MOST_TLS_CONNECTIONS : MOST_CONNECTIONS;
  const connections = Math.min(inMemory, fits, most);
  if (connections === most) return { connections, follows: 'default' };
  return { connections, follows: connections === fits ? 'file descriptors' : 'memory' };
}

/** Null where addresses are not limited. */
export function addressLimitOf(limits: Limits, clock: () => number): AddressLimit | null {
  const { connectionsPerAddress: open, newConnectionsPerAddress: newPer } = limits;
  return open === null && newPer === null ? null : new AddressLimit({ open, newPer }, clock);
}

/** Null where no rate is limited. */
export function pacerOf(limits: Limits, clock: () => number): Pacer | null {
  const { pairBytesPerSecond, totalBytesPerSecond } = limits;
  if (pairBytesPerSecond === null && totalBytesPerSecond === null) return null;
  return new Pacer({ pairBytesPerSecond, totalBytesPerSecond }, clock);
}
