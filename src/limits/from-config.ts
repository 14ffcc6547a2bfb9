import type { Config } from '../config/config.ts';
import { AddressLimit } from './address-limit.ts';
import { connectionsThatFit, defaultMaxConnections } from './open-files.ts';
import type { Needs } from './open-files.ts';
import { Pacer } from './pacer.ts';

/** What the configuration says of limits, as what keeps them. `clock`: milliseconds of a clock that never jumps. */

type Limits = Config['limits'];

export interface Room {
  /** Null: as many as come. */
  readonly maxConnections: number | null;
  readonly maxWaiting: number | null;
  /** Connections that leave descriptors for everything else. */
  readonly fits: number;
}

/** How many clients there may be, where the operator leaves that to us, and how many would fit. */
export function roomOf({ maxConnections, maxWaiting }: Limits, descriptors: number, needs: Needs): Room {
  const fits = connectionsThatFit(descriptors, needs);
  const connections = maxConnections === 'auto' ? defaultMaxConnections(descriptors, needs) : maxConnections;
  return {
    fits,
    maxConnections: connections,
    // Each that waits needs a place for its partner.
    maxWaiting: maxWaiting === 'auto' ? Math.ceil((connections ?? fits) / 2) : maxWaiting,
  };
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
