import type { Site } from './cluster.ts';
import type { Peer } from './peers.ts';

/** Placement of the two clients of a pair. */
export interface Placement {
  readonly name: string;
  /** Relay of the first client, which sends. */
  readonly peer: Peer;
  /** Port of the second client. */
  readonly otherPort: number;
  /** Relays that handle them. */
  readonly relays: readonly Peer[];
}

/** The first one is the baseline of the others. */
export function placementsOf({ alone, first, second, firstByTls, secondByTls }: Site): readonly Placement[] {
  return [
    { name: 'on one relay alone', peer: alone, otherPort: alone.tcpPort, relays: [alone] },
    { name: 'on one relay of a cluster', peer: first, otherPort: first.tcpPort, relays: [first] },
    { name: 'on two', peer: first, otherPort: second.tcpPort, relays: [first, second] },
    {
      name: 'on two, with RELAY_CLUSTER_TLS',
      peer: firstByTls,
      otherPort: secondByTls.tcpPort,
      relays: [firstByTls, secondByTls],
    },
  ];
}
