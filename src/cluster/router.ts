import { setTimeout as sleep } from 'node:timers/promises';
import { parseHostPort } from '../config/endpoint.ts';
import type { Side, Token } from '../protocol/messages.ts';
import { Forwarder } from './forwarder.ts';
import type { ForwardableClient } from './forwarder.ts';
import { LinkError, connectLink } from './link-client.ts';
import type { Link, LinkConfig, LinkErrorCode } from './link-client.ts';
import { TokenLeases } from './token-leases.ts';
import type { TokenLeasesOptions } from './token-leases.ts';

/** Limits the concurrent connection attempts to each relay. The others wait in a queue. */
export class PeerConcurrency {
  readonly #limit: number;
  readonly #isFatal: (error: unknown) => boolean;
  readonly #peers = new Map<string, { running: number; readonly waiting: PromiseWithResolvers<void>[] }>();

  /** @param isFatal whether all queued attempts to the same relay fail with this error too */
  constructor(limit: number, isFatal: (error: unknown) => boolean) {
    this.#limit = limit;
    this.#isFatal = isFatal;
  }

  async run<T>(address: string, connect: () => Promise<T>): Promise<T> {
    const peer = this.#peers.get(address) ?? { running: 0, waiting: [] };
    this.#peers.set(address, peer);
    if (peer.running < this.#limit) {
      peer.running += 1;
    } else {
      // A finished attempt passes its slot on.
      const turn = Promise.withResolvers<void>();
      peer.waiting.push(turn);
      await turn.promise;
    }
    try {
      return await connect();
    } catch (error) {
      if (this.#isFatal(error)) for (const turn of peer.waiting.splice(0)) turn.reject(error);
      throw error;
    } finally {
      const next = peer.waiting.shift();
      if (next === undefined) peer.running -= 1;
      else next.resolve();
      if (peer.running === 0) this.#peers.delete(address);
    }
  }
}

/** Another relay of the cluster. */
export interface Owner {
  /** Identifies the process, and is never reused: 8 to 64 letters, digits, `-` or `_`. */
  readonly id: string;
  /** Where it accepts links: `host:port`, an IPv6 address in brackets. */
  readonly address: string;
}

/** The other relays of a cluster, where partners of clients may be waiting. */
export interface ClusterRouter {
  /** The object that forwards one waiting client to the relay that owns its token. */
  createForwarder(client: ForwardableClient, token: Token, side: Side | null): Forwarder;
  /**
   * Finds the relay that owns a token. If there is none, this relay becomes the owner until `release`. Never rejects.
   *
   * @returns null: this relay
   */
  resolveOwner(token: Token): Promise<Owner | null>;
  /** Takes the token from an owner that is unreachable. Returns the owner if it is yet another relay. Never rejects. */
  takeOver(token: Token, owner: Owner): Promise<Owner | null>;
  /** Whether that relay still owns the token; true if unknown. Changes nothing. Never rejects. */
  isOwner(token: Token, owner: Owner): Promise<boolean>;
  /** No client waits under the token here any more. Does nothing if this relay is not the owner. */
  release(token: Token): void;
  /** Opens a link to another relay. Rejects if that fails, within a second or two. */
  connect(owner: Owner): Promise<Link>;
}

/** Time limit for connecting to another relay and the handshake, in milliseconds. A Go receiver gives the relay 5 s in all. */
const LINK_CONNECT_TIMEOUT_MS = 1500;

/** Delay before an unreachable relay is tried once more, in milliseconds. */
const RECONNECT_DELAY_MS = 50;

/** Delays for a relay that closes connections during the handshake, in milliseconds. Their sum is longer than untrusted peers can keep a pending slot. */
const EVICTED_RETRY_DELAYS_MS = [50, 100, 200, 400];

/** Concurrent connection attempts to one relay. A relay that has lost many tokens at once must not use up all pending slots there. */
const MAX_CONNECTS_PER_PEER = 16;

interface LeaseRouterOptions extends TokenLeasesOptions {
  readonly links: LinkConfig;
  /** Could not connect to another relay. Not called for attempts that this relay aborts when it stops. */
  readonly onConnectFailed: (failure: LinkErrorCode, owner: Owner) => void;
  /** Another running relay advertises this relay's address. Called for each token that it leases. */
  readonly onAddressConflict: () => void;
}

/** Finds owners of tokens by leases, and opens links to them. */
export class LeaseRouter implements ClusterRouter {
  readonly #options: LeaseRouterOptions;
  readonly leases: TokenLeases;
  readonly #abortController = new AbortController();
  readonly #failures: Record<LinkErrorCode, number> = {
    version: 0,
    secret: 0,
    'not a relay': 0,
    tls: 0,
    address: 0,
    unreachable: 0,
    timeout: 0,
    aborted: 0,
  };
  readonly #concurrency = new PeerConcurrency(
    MAX_CONNECTS_PER_PEER,
    (error) => error instanceof LinkError && !error.closedDuringAuth,
  );
  #linkAttempts = 0;

  constructor(options: LeaseRouterOptions) {
    this.#options = options;
    const lost = (token: Token, owner: Owner): void => {
      if (this.#isOtherRelay(owner)) options.events.onLeaseLost(token, owner);
      else options.onAddressConflict();
    };
    this.leases = new TokenLeases({ ...options, events: { ...options.events, onLeaseLost: lost } });
  }

  /** Connection attempts to other relays since the start, and failures by kind. */
  get linkAttempts(): { readonly made: number; readonly failed: Readonly<Record<LinkErrorCode, number>> } {
    return { made: this.#linkAttempts, failed: this.#failures };
  }

  createForwarder(client: ForwardableClient, token: Token, side: Side | null): Forwarder {
    return new Forwarder(client, this, token, side);
  }

  async resolveOwner(token: Token): Promise<Owner | null> {
    return this.#remoteOwner(await this.leases.acquire(token));
  }

  async takeOver(token: Token, owner: Owner): Promise<Owner | null> {
    return this.#remoteOwner(await this.leases.takeOver(token, owner));
  }

  isOwner(token: Token, owner: Owner): Promise<boolean> {
    return this.leases.isOwner(token, owner);
  }

  release(token: Token): void {
    this.leases.release(token);
  }

  async connect(owner: Owner): Promise<Link> {
    this.#linkAttempts += 1;
    try {
      return await this.#connectWithRetries(owner);
    } catch (error) {
      if (error instanceof LinkError) this.#onConnectFailed(error.code, owner);
      throw error;
    }
  }

  #remoteOwner(owner: Owner | null): Owner | null {
    return owner !== null && this.#isOtherRelay(owner) ? owner : null;
  }

  /** Otherwise a link would come back to this relay. */
  #isOtherRelay(owner: Owner): boolean {
    return owner.address !== this.#options.self.address;
  }

  #onConnectFailed(failure: LinkErrorCode, owner: Owner): void {
    this.#failures[failure] += 1;
    if (failure !== 'aborted') this.#options.onConnectFailed(failure, owner);
  }

  /** A relay with many pending connections evicts some of them, and must not lose its tokens for that. */
  async #connectWithRetries(owner: Owner): Promise<Link> {
    const address = parseHostPort(owner.address);
    if (address === null) throw new LinkError('address');
    const { signal } = this.#abortController;
    const options = { ...this.#options.links, address, timeoutMs: LINK_CONNECT_TIMEOUT_MS, signal };
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#concurrency.run(owner.address, () => connectLink(options));
      } catch (error) {
        if (!(error instanceof LinkError) || error.code !== 'unreachable') throw error;
        const pauseMs = (error.closedDuringAuth ? EVICTED_RETRY_DELAYS_MS : [RECONNECT_DELAY_MS])[attempt];
        if (pauseMs === undefined) throw error;
        await sleep(pauseMs);
      }
    }
  }

  /** Aborts connection attempts, releases all leases, and disconnects. Takes two seconds at most. */
  async close(): Promise<void> {
    this.#abortController.abort();
    await this.leases.close();
  }
}
