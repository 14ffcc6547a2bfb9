import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { addressPrefix } from '../protocol/ip-address.ts';
import { EMPTY_BYTES } from '../transport/byte-stream.ts';
import type { ByteStream, ByteStreamHandler } from '../transport/byte-stream.ts';
import { LinkServerAuth, TlsOffer } from './link-auth.ts';
import type { LinkAuthFailure, LinkTls } from './link-auth.ts';
import type { LinkConfig } from './link-client.ts';

/**
 * Why a connection did not become a link: a failure of the handshake; `timeout`: it took too long; `disconnected`: the peer
 * closed it; `evicted`: there were too many pending connections; `closed`: the relay is stopping; `address`: it came from
 * outside of `RELAY_CLUSTER_NETWORKS`.
 */
export type LinkFailure = LinkAuthFailure | 'address' | 'timeout' | 'disconnected' | 'evicted' | 'closed';

/** Time for the handshake, in milliseconds: several round trips of a very slow network. */
const AUTH_TIMEOUT_MS = 5000;

/** Generous time for the handshake of a healthy relay, in milliseconds. Slower peers are evicted first. */
const SLOW_AUTH_MS = 500;

/** A connection that is not authenticated yet. */
class PendingPeer implements ByteStreamHandler {
  readonly stream: ByteStream;
  /** Null if TLS authenticates the peer. */
  readonly #auth: LinkServerAuth | null;
  readonly #server: LinkServer;
  #timer: NodeJS.Timeout;
  /** Its handshake takes longer than a healthy relay's. */
  isSlow = false;
  #isDone = false;

  constructor(stream: ByteStream, auth: LinkServerAuth | null, server: LinkServer) {
    this.stream = stream;
    this.#auth = auth;
    this.#server = server;
    this.#timer = setTimeout(() => {
      this.isSlow = true;
      this.#timer = setTimeout(() => this.close('timeout'), AUTH_TIMEOUT_MS - SLOW_AUTH_MS);
    }, SLOW_AUTH_MS);
  }

  start(): void {
    this.stream.start(this);
    if (this.#auth !== null) this.stream.write(Buffer.from(this.#auth.opening));
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#isDone) return;
    const step = this.#auth?.receive(bytes);
    // With TLS nothing can come before it has authenticated the peer.
    if (step === undefined) {
      this.close('not a relay');
      return;
    }
    if (step.send !== '') this.stream.write(Buffer.from(step.send));
    if (step.kind === 'failed') this.close(step.failure);
    else if (step.kind === 'authenticated') this.onAuthenticated(step.rest);
  }

  /** @param firstBytes what came behind the handshake, in memory that the next read overwrites */
  onAuthenticated(firstBytes: Uint8Array): void {
    if (this.#isDone) return;
    this.#settle();
    this.#server.onAuthenticated(this, firstBytes);
  }

  onWritable(): void {
    // Only two short lines are ever sent.
  }

  onEnd(): void {
    this.close('disconnected');
  }

  onClose(): void {
    this.close('disconnected');
  }

  /** Closes it and reports why. Does nothing once it is done. */
  close(failure: LinkFailure): void {
    if (this.#isDone) return;
    this.#settle();
    this.stream.abort();
    this.#server.onFailed(this, failure);
  }

  #settle(): void {
    this.#isDone = true;
    clearTimeout(this.#timer);
  }
}

/** Pending slots. A handshake takes one round trip, so even relays 50 ms away can open more than a thousand links a second. */
export const MAX_PENDING_PEERS = 64;

/** Limit for networks remembered because a relay connected from there. The least recent one is forgotten first. */
const MAX_KNOWN_NETWORKS = 1024;

interface LinkServerOptions extends LinkConfig {
  /**
   * Another relay has opened a link. The stream must be started before this returns; `firstBytes` are in memory that the next
   * read overwrites.
   */
  readonly onLink: (stream: ByteStream, firstBytes: Uint8Array) => void;
  /** Called once for each connection that did not become a link, also if there are very many. */
  readonly onRejected: (failure: LinkFailure) => void;
}

/**
 * Accepts connections of other relays. Connections that are not authenticated use a small number of pending slots, which
 * open links do not need.
 */
export class LinkServer {
  readonly #options: LinkServerOptions;
  /** Connections that are not authenticated yet, the oldest first, and the network of each. */
  readonly #pendingPeers = new Map<PendingPeer, string>();
  /** Networks from which relays of the cluster have connected, the most recent last. */
  readonly #knownNetworks = new Set<string>();
  #isClosed = false;

  constructor(options: LinkServerOptions) {
    this.#options = options;
  }

  /** Used pending slots: 0 to `MAX_PENDING_PEERS`. */
  get pendingPeers(): number {
    return this.#pendingPeers.size;
  }

  /** A server that does not listen yet. The caller closes it. */
  createServer(): Server {
    const { backend } = this.#options;
    const accept = (stream: ByteStream): void => this.#accept(stream);
    const server = createServer({ allowHalfOpen: true }, (socket) =>
      accept(backend.adoptSocket(socket, 'tcp')),
    );
    server.on('listening', () => backend.acceptStreams(server, 'tcp', accept));
    return server;
  }

  /** Closes pending connections, and those that come from now on. Open links stay. */
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
    const { tls, key, networks, onRejected } = this.#options;
    const remote = stream.remoteAddress ?? '';
    const from = addressPrefix(remote);
    let failure: LinkFailure | null = null;
    if (!networks.allowsIncoming(remote)) failure = 'address';
    else if (this.#isClosed) failure = 'closed';
    else if (!this.#ensureSlot(from)) failure = 'evicted';
    else if (tls !== null && !sendTlsOffer(stream)) failure = 'disconnected';
    if (failure !== null) {
      stream.abort();
      onRejected(failure);
      return;
    }
    const pendingPeer =
      tls === null
        ? new PendingPeer(stream, new LinkServerAuth(key), this)
        : this.#createTlsPeer(stream, tls);
    this.#pendingPeers.set(pendingPeer, from);
    pendingPeer.start();
  }

  #createTlsPeer(stream: ByteStream, tls: LinkTls): PendingPeer {
    const secured = tls.wrap('server', this.#options.backend, stream, {
      onAuthenticated: () => pendingPeer.onAuthenticated(EMPTY_BYTES),
      onFailed: (failure) => pendingPeer.close(failure),
    });
    const pendingPeer = new PendingPeer(secured, null, this);
    return pendingPeer;
  }

  /**
   * Frees a slot if all are in use. A peer from a known network evicts the oldest pending connection from an unknown one, so
   * that untrusted peers cannot lock out a relay that has been connected before, however many addresses they use. Otherwise the
   * oldest connection is evicted if it is slow; otherwise the oldest one of the network with the most connections, if that
   * has more than the new peer's network would have.
   */
  #ensureSlot(from: string): boolean {
    if (this.#pendingPeers.size < MAX_PENDING_PEERS) return true;
    const [oldest] = this.#pendingPeers.keys();
    const unknown = this.#knownNetworks.has(from) ? this.#oldestOfUnknownNetworks() : undefined;
    const evicted = unknown ?? (oldest?.isSlow === true ? oldest : this.#oldestOfBusiestNetwork(from));
    evicted?.close('evicted');
    return evicted !== undefined;
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
    const [leastRecent] = this.#knownNetworks;
    if (this.#knownNetworks.size > MAX_KNOWN_NETWORKS && leastRecent !== undefined)
      this.#knownNetworks.delete(leastRecent);
  }

  #oldestOfBusiestNetwork(from: string): PendingPeer | undefined {
    const byNetwork = Map.groupBy(this.#pendingPeers.keys(), (pendingPeer) =>
      this.#pendingPeers.get(pendingPeer),
    );
    const most = [...byNetwork.values()].reduce((one, other) => (other.length > one.length ? other : one));
    const own = byNetwork.get(from)?.length ?? 0;
    return most.length > own + 1 ? most[0] : undefined;
  }
}

/**
 * Announces TLS unencrypted, so that a peer without it can report that. False if the peer is gone already: a TLS stream would
 * not report it.
 */
function sendTlsOffer(stream: ByteStream): boolean {
  stream.write(Buffer.from(TlsOffer.line));
  return stream.remoteAddress !== null;
}
