import type { Site } from './cluster.ts';
import type { Peer } from './peers.ts';

/** How the two clients of a pair come together. */
export interface Way {
  readonly name: string;
  /** Where the first client comes, which sends. */
  readonly peer: Peer;
  /** Where the second one comes. */
  readonly otherPort: number;
  /** The relays that work for them. */
  readonly relays: readonly Peer[];
}

/** The first is what the others are compared with. */
export function waysOf({ alone, first, second, firstByTls, secondByTls }: Site): readonly Way[] {
  return [
    { name: 'on one relay alone', peer: alone, otherPort: alone.tcpPort, relays: [alone] },
    { name: 'on one relay of a group', peer: first, otherPort: first.tcpPort, relays: [first] },
    { name: 'on two', peer: first, otherPort: second.tcpPort, relays: [first, second] },
    {
      name: 'on two, with RELAY_CLUSTER_TLS',
      peer: firstByTls,
      otherPort: secondByTls.tcpPort,
      relays: [firstByTls, secondByTls],
    },
  ];
}
