import type { KeyObject } from 'node:crypto';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { addressPrefix } from '../limits/address-prefix.ts';
import type { DataPlane } from '../net/data-plane.ts';
import type { Wire } from '../net/wire.ts';
import { OwnerGreeting, TlsInvitation, greetingKey } from './greeting.ts';
import type { GreetingFault } from './greeting.ts';
import { LinkGuest } from './link-guest.ts';
import type { LinkFailure, LinkHost } from './link-guest.ts';
import type { LinkTls } from './link-tls.ts';
import type { PeerNetworks } from './peer-networks.ts';

/**
 * How many may be greeting at once. A greeting is one round trip, so that even relays 50 ms away open more than a thousand links a second.
 */
export const MAX_LINK_GUESTS = 64;

/** Networks that are remembered because a relay has come from there; those of one that was heard of long ago are forgotten first. */
const MAX_KNOWN = 1024;

export interface LinkDoorOptions {
  readonly plane: DataPlane;
  /** What all relays of the cluster have in common. */
  readonly secret: string;
  /** Null: links are not encrypted. */
  readonly tls: LinkTls | null;
  /** Connections from outside of these are closed at once. */
  readonly networks: PeerNetworks;
  /**
   * Another relay has opened a link. The wire has to be started before this returns; the bytes that it brought already lie in memory
   * that the next read will use.
   */
  readonly arrived: (wire: Wire, firstBytes: Uint8Array) => void;
  /** Somebody came and has not become a link. Called once for each, however many they are. */
  readonly failed: (failure: LinkFailure) => void;
}

/**
 * Where other relays come in. Whoever has not proved that it has the secret gets one line, and costs one of a few places,
 * which links that are open have no need of.
 */
export class LinkDoor implements LinkHost {
  readonly #options: LinkDoorOptions;
  readonly #key: KeyObject;
  /** Those who are greeting, the oldest first, and the network that each came from. */
  readonly #guests = new Map<LinkGuest, string>();
  /** Where relays of the group have come from, the latest last. */
  readonly #known = new Set<string>();
  #isClosed = false;

  constructor(options: LinkDoorOptions) {
    this.#options = options;
    this.#key = greetingKey(options.secret);
  }

  /** How many are greeting: 0 to `MAX_LINK_GUESTS`. */
  get guests(): number {
    return this.#guests.size;
  }

  /** A server through which they come in. Whoever lets it listen closes it. */
  createServer(): Server {
    const { plane } = this.#options;
    const enter = (wire: Wire): void => this.#enter(wire);
    const server = createServer({ allowHalfOpen: true }, (socket) =>
      enter(plane.wireOfSocket(socket, 'tcp')),
    );
    server.on('listening', () => plane.acceptWires(server, 'tcp', enter));
    return server;
  }

  /** Cuts those who are greeting, and whoever comes from now on. Links that are open stay. */
  close(): void {
    this.#isClosed = true;
    for (const guest of this.#guests.keys()) guest.cut('closed');
  }

  proven(guest: LinkGuest, firstBytes: Uint8Array): void {
    this.#remember(this.#guests.get(guest));
    this.#guests.delete(guest);
    this.#options.arrived(guest.wire, firstBytes);
  }

  failed(guest: LinkGuest, failure: LinkFailure): void {
    this.#guests.delete(guest);
    this.#options.failed(failure);
  }

  #enter(wire: Wire): void {
    const remote = wire.ends?.remote ?? '';
    if (!this.#options.networks.accepts(remote)) {
      wire.destroy();
      this.#options.failed('address');
      return;
    }
    const from = addressPrefix(remote);
    if (this.#isClosed || !this.#hasPlace(from)) {
      wire.destroy();
      this.#options.failed(this.#isClosed ? 'closed' : 'crowded');
      return;
    }
    const { tls } = this.#options;
    if (tls !== null && !invite(wire)) {
      wire.destroy();
      this.#options.failed('left');
      return;
    }
    const guest = tls === null ? this.#guestOn(wire) : this.#secureGuestOn(wire, tls);
    this.#guests.set(guest, from);
    guest.start();
    if (tls === null) guest.greet();
  }

  #guestOn(wire: Wire): LinkGuest {
    return new LinkGuest(wire, new OwnerGreeting(this.#key), this);
  }

  #secureGuestOn(wire: Wire, tls: LinkTls): LinkGuest {
    const ready = (): void => guest.greet();
    const failed = (fault: GreetingFault): void => guest.cut(fault);
    const guest = this.#guestOn(tls.asOwner(this.#options.plane, wire, ready, failed));
    return guest;
  }

  /**
   * Where all places are taken, somebody from where a relay has come before takes that of the oldest guest of whom this can't be said: so
   * strangers keep no relay out that has been here, from however many addresses they come. Else the oldest guest makes room if it takes
   * longer than a relay does; else the oldest of those that most have come with from one address, if fewer have come from the newcomer's.
   */
  #hasPlace(from: string): boolean {
    if (this.#guests.size < MAX_LINK_GUESTS) return true;
    const [oldest] = this.#guests.keys();
    const stranger = this.#known.has(from) ? this.#oldestUnknown() : undefined;
    const leaves = stranger ?? (oldest?.isSlow === true ? oldest : this.#oldestOfMost(from));
    leaves?.cut('crowded');
    return leaves !== undefined;
  }

  #oldestUnknown(): LinkGuest | undefined {
    for (const [guest, from] of this.#guests) if (!this.#known.has(from)) return guest;
    return undefined;
  }

  #remember(from: string | undefined): void {
    if (from === undefined) return;
    this.#known.delete(from);
    this.#known.add(from);
    const [longestAgo] = this.#known;
    if (this.#known.size > MAX_KNOWN && longestAgo !== undefined) this.#known.delete(longestAgo);
  }

  #oldestOfMost(from: string): LinkGuest | undefined {
    const crowds = Map.groupBy(this.#guests.keys(), (guest) => this.#guests.get(guest));
    const most = [...crowds.values()].reduce((one, other) => (other.length > one.length ? other : one));
    const own = crowds.get(from)?.length ?? 0;
    return most.length > own + 1 ? most[0] : undefined;
  }
}

/**
 * Says in the clear that TLS comes next, so that who does not want it can tell. False: it is gone already, which nobody would say once
 * TLS is on the wire.
 */
function invite(wire: Wire): boolean {
  wire.write(Buffer.from(TlsInvitation.line));
  return wire.ends !== null;
}
