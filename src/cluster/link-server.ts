import type { KeyObject } from 'node:crypto';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { addressPrefix } from '../protocol/ip-address.ts';
import type { ByteStream, ByteStreamHandler } from '../transport/byte-stream.ts';
import type { IoBackend } from '../transport/io-backend.ts';
import { LinkServerAuth, TlsOffer, linkAuthKey } from './link-auth.ts';
import type { LinkAuthFailure } from './link-auth.ts';
import type { LinkTls } from './link-tls.ts';
import type { PeerNetworks } from './peer-networks.ts';

/**
 * What became of somebody who has not proved itself: a fault of its greeting, `timeout` where that took too long, `left` where it
 * went by itself, `crowded` where there were too many like it, `closed` where nobody is let in any more,
 * `address` where it came from outside of `RELAY_CLUSTER_NETWORKS`.
 */
export type LinkFailure = LinkAuthFailure | 'address' | 'timeout' | 'left' | 'crowded' | 'closed';

/** How long a greeting may take, in milliseconds: some round trips of the worst network there is. */
const AUTH_TIMEOUT_MS = 5000;

/** How long it takes where all is well, generously, in milliseconds. Who takes longer gives way where there is a crowd. */
const SLOW_AUTH_MS = 500;

/** Who a guest belongs to. One of these is called, once. */
export interface PendingPeerHandler {
  /** It has proved itself; the wire is the host's. The bytes lie in memory that the next read will use. */
  onAuthenticated(pendingPeer: PendingPeer, firstBytes: Uint8Array): void;
  /** It is gone, or its wire is about to close. */
  onFailed(pendingPeer: PendingPeer, failure: LinkFailure): void;
}

/** Somebody who has connected and not proved itself yet. */
export class PendingPeer implements ByteStreamHandler {
  readonly stream: ByteStream;
  readonly #auth: LinkServerAuth;
  readonly #handler: PendingPeerHandler;
  #timer: NodeJS.Timeout;
  #isSlow = false;
  #isDone = false;

  constructor(stream: ByteStream, auth: LinkServerAuth, host: PendingPeerHandler) {
    this.stream = stream;
    this.#auth = auth;
    this.#handler = host;
    this.#timer = setTimeout(() => {
      this.#isSlow = true;
      this.#timer = setTimeout(() => this.close('timeout'), AUTH_TIMEOUT_MS - SLOW_AUTH_MS);
    }, SLOW_AUTH_MS);
  }

  /** It takes longer than a relay does. */
  get isSlow(): boolean {
    return this.#isSlow;
  }

  /** Begins to listen to it. */
  start(): void {
    this.stream.start(this);
  }

  /** Speaks first. */
  sendOpening(): void {
    this.stream.write(Buffer.from(this.#auth.opening));
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#isDone) return;
    const step = this.#auth.receive(bytes);
    if (step.say !== '') this.stream.write(Buffer.from(step.say));
    if (step.kind === 'failed') this.close(step.fault);
    if (step.kind !== 'proven') return;
    this.#settle();
    this.#handler.onAuthenticated(this, step.rest);
  }

  onWritable(): void {
    // Two short lines are all that is ever sent.
  }

  onEnd(): void {
    this.close('left');
  }

  onClose(): void {
    this.close('left');
  }

  /** Closes it, and says why. Does nothing once it is done. */
  close(failure: LinkFailure): void {
    if (this.#isDone) return;
    this.#settle();
    this.stream.abort();
    this.#handler.onFailed(this, failure);
  }

  #settle(): void {
    this.#isDone = true;
    clearTimeout(this.#timer);
  }
}

/**
 * How many may be greeting at once. A greeting is one round trip, so that even relays 50 ms away open more than a thousand links a second.
 */
export const MAX_PENDING_PEERS = 64;

/** Networks that are remembered because a relay has come from there; those of one that was heard of long ago are forgotten first. */
const MAX_KNOWN_NETWORKS = 1024;

export interface LinkServerOptions {
  readonly backend: IoBackend;
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
  readonly onLink: (stream: ByteStream, firstBytes: Uint8Array) => void;
  /** Somebody came and has not become a link. Called once for each, however many they are. */
  readonly onRejected: (failure: LinkFailure) => void;
}

/**
 * Where other relays come in. Whoever has not proved that it has the secret gets one line, and costs one of a few places,
 * which links that are open have no need of.
 */
export class LinkServer implements PendingPeerHandler {
  readonly #options: LinkServerOptions;
  readonly #key: KeyObject;
  /** Those who are greeting, the oldest first, and the network that each came from. */
  readonly #pendingPeers = new Map<PendingPeer, string>();
  /** Where relays of the group have come from, the latest last. */
  readonly #knownNetworks = new Set<string>();
  #isClosed = false;

  constructor(options: LinkServerOptions) {
    this.#options = options;
    this.#key = linkAuthKey(options.secret);
  }

  /** How many are greeting: 0 to `MAX_LINK_GUESTS`. */
  get pendingPeers(): number {
    return this.#pendingPeers.size;
  }

  /** A server through which they come in. Whoever lets it listen closes it. */
  createServer(): Server {
    const { backend } = this.#options;
    const enter = (stream: ByteStream): void => this.#accept(stream);
    const server = createServer({ allowHalfOpen: true }, (socket) =>
      enter(backend.adoptSocket(socket, 'tcp')),
    );
    server.on('listening', () => backend.acceptStreams(server, 'tcp', enter));
    return server;
  }

  /** Cuts those who are greeting, and whoever comes from now on. Links that are open stay. */
  close(): void {
    this.#isClosed = true;
    for (const pendingPeer of this.#pendingPeers.keys()) pendingPeer.close('closed');
  }

  onAuthenticated(pendingPeer: PendingPeer, firstBytes: Uint8Array): void {
    this.#rememberNetwork(this.#pendingPeers.get(pendingPeer));
    this.#pendingPeers.delete(pendingPeer);
    this.#options.onLink(pendingPeer.stream, firstBytes);
  }

  onFailed(pendingPeer: PendingPeer, failure: LinkFailure): void {
    this.#pendingPeers.delete(pendingPeer);
    this.#options.onRejected(failure);
  }

  #accept(stream: ByteStream): void {
    const remote = stream.addresses?.remote ?? '';
    if (!this.#options.networks.allowsIncoming(remote)) {
      stream.abort();
      this.#options.onRejected('address');
      return;
    }
    const from = addressPrefix(remote);
    if (this.#isClosed || !this.#ensureSlot(from)) {
      stream.abort();
      this.#options.onRejected(this.#isClosed ? 'closed' : 'crowded');
      return;
    }
    const { tls } = this.#options;
    if (tls !== null && !sendTlsOffer(stream)) {
      stream.abort();
      this.#options.onRejected('left');
      return;
    }
    const pendingPeer = tls === null ? this.#createPeer(stream) : this.#createTlsPeer(stream, tls);
    this.#pendingPeers.set(pendingPeer, from);
    pendingPeer.start();
    if (tls === null) pendingPeer.sendOpening();
  }

  #createPeer(stream: ByteStream): PendingPeer {
    return new PendingPeer(stream, new LinkServerAuth(this.#key), this);
  }

  #createTlsPeer(stream: ByteStream, tls: LinkTls): PendingPeer {
    const ready = (): void => pendingPeer.sendOpening();
    const failed = (error: LinkAuthFailure): void => pendingPeer.close(error);
    const pendingPeer = this.#createPeer(tls.wrapServer(this.#options.backend, stream, ready, failed));
    return pendingPeer;
  }

  /**
   * Where all places are taken, somebody from where a relay has come before takes that of the oldest guest of whom this can't be said: so
   * strangers keep no relay out that has been here, from however many addresses they come. Else the oldest guest makes room if it takes
   * longer than a relay does; else the oldest of those that most have come with from one address, if fewer have come from the newcomer's.
   */
  #ensureSlot(from: string): boolean {
    if (this.#pendingPeers.size < MAX_PENDING_PEERS) return true;
    const [oldest] = this.#pendingPeers.keys();
    const stranger = this.#knownNetworks.has(from) ? this.#oldestOfUnknownNetworks() : undefined;
    const leaves = stranger ?? (oldest?.isSlow === true ? oldest : this.#oldestOfBusiestNetwork(from));
    leaves?.close('crowded');
    return leaves !== undefined;
  }

  #oldestOfUnknownNetworks(): PendingPeer | undefined {
    for (const [pendingPeer, from] of this.#pendingPeers)
      if (!this.#knownNetworks.has(from)) return pendingPeer;
    return undefined;
  }

  #rememberNetwork(from: string | undefined): void {
    if (from === undefined) return;
    this.#knownNetworks.delete(from);
    this.#knownNetworks.add(from);
    const [longestAgo] = this.#knownNetworks;
    if (this.#knownNetworks.size > MAX_KNOWN_NETWORKS && longestAgo !== undefined)
      this.#knownNetworks.delete(longestAgo);
  }

  #oldestOfBusiestNetwork(from: string): PendingPeer | undefined {
    const crowds = Map.groupBy(this.#pendingPeers.keys(), (pendingPeer) =>
      this.#pendingPeers.get(pendingPeer),
    );
    const most = [...crowds.values()].reduce((one, other) => (other.length > one.length ? other : one));
    const own = crowds.get(from)?.length ?? 0;
    return most.length > own + 1 ? most[0] : undefined;
  }
}

/**
 * Says in the clear that TLS comes next, so that who does not want it can tell. False: it is gone already, which nobody would say once
 * TLS is on the wire.
 */
function sendTlsOffer(stream: ByteStream): boolean {
  stream.write(Buffer.from(TlsOffer.line));
  return stream.addresses !== null;
}
