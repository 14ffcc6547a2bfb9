import type { BenchCluster } from './cluster.ts';
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

/** The first placement is the baseline of the others. */
export function placementsOf({
  single,
  first,
  second,
  firstByTls,
  secondByTls,
}: BenchCluster): readonly Placement[] {
  return [
    { name: 'on a single relay', peer: single, otherPort: single.tcpPort, relays: [single] },
    { name: 'on one relay of a cluster', peer: first, otherPort: first.tcpPort, relays: [first] },
    { name: 'on two relays', peer: first, otherPort: second.tcpPort, relays: [first, second] },
    {
      name: 'on two relays, with RELAY_CLUSTER_TLS',
      peer: firstByTls,
      otherPort: secondByTls.tcpPort,
      relays: [firstByTls, secondByTls],
    },
  ];
}
