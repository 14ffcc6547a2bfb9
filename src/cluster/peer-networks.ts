import { lookup as resolve } from 'node:dns';
import type { LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { contains, parseCidrs } from '../config/trusted-proxies.ts';
import type { Cidr } from '../config/trusted-proxies.ts';

/**
 * Addresses that no relay has: unspecified, link-local (where clouds have their metadata services), multicast, reserved. A
 * coordinator that names one of them is broken or hostile.
 */
const FORBIDDEN_NETWORKS = parseCidrs(
  '0.0.0.0/8 169.254.0.0/16 224.0.0.0/4 240.0.0.0/4 ::/128 fe80::/10 ff00::/8',
);

const LOOPBACK = parseCidrs('127.0.0.0/8 ::1/128');

/** The other relay's address, or all addresses of its name, are not allowed. */
export class PeerAddressError extends Error {
  constructor() {
    super('the address is not allowed');
  }
}

/** Networks in which other relays may be. Their addresses come from the coordinator, which is not trusted. */
export class PeerNetworks {
  readonly #networks: readonly Cidr[];
  readonly #allowsLoopback: boolean;

  /**
   * @param networks `RELAY_CLUSTER_NETWORKS`; empty: every address that a relay can have
   * @param ownHost this relay's advertised host. Others are allowed on loopback only if it is on loopback.
   */
  constructor(networks: readonly Cidr[], ownHost: string) {
    this.#networks = networks;
    this.#allowsLoopback = ownHost === 'localhost' || contains(LOOPBACK, ownHost);
  }

  /** Whether this relay may connect to an IP address. */
  allowsOutgoing(address: string): boolean {
    if (this.#networks.length > 0) return contains(this.#networks, address);
    return !contains(FORBIDDEN_NETWORKS, address) && (this.#allowsLoopback || !contains(LOOPBACK, address));
  }

  /** Whether a connection from an IP address may be another relay's. Without `RELAY_CLUSTER_NETWORKS` it may come from anywhere. */
  allowsIncoming(address: string): boolean {
    return this.#networks.length === 0 || contains(this.#networks, address);
  }

  /** For `net.connect`: resolves a name, and returns the allowed addresses only. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, found) => {
      const allowed: LookupAddress[] =
        error === null ? found.filter(({ address }) => this.allowsOutgoing(address)) : [];
      const [first] = allowed;
      if (first === undefined) callback(error ?? new PeerAddressError(), '', 0);
      else if (options.all === true) callback(null, allowed);
      else callback(null, first.address, first.family);
    });
  };
}
