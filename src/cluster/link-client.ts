import type { KeyObject } from 'node:crypto';
import { lookup as resolveName } from 'node:dns';
import { connect, isIP } from 'node:net';
import type { LookupFunction, Socket } from 'node:net';
import { contains, parseCidrs } from '../config/trusted-proxies.ts';
import type { Cidr } from '../config/trusted-proxies.ts';
import { errorCode } from '../process/errors.ts';
import { EMPTY_BYTES } from '../transport/byte-stream.ts';
import type { ByteStream, ByteStreamHandler } from '../transport/byte-stream.ts';
import type { IoBackend } from '../transport/io-backend.ts';
import { LinkClientAuth, TlsOffer } from './link-auth.ts';
import type { LinkAuth, LinkAuthFailure, LinkTls } from './link-auth.ts';

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
    resolveName(hostname, { ...options, all: true }, (error, found) => {
      const allowed = error === null ? found.filter(({ address }) => this.allowsOutgoing(address)) : [];
      const [first] = allowed;
      if (first === undefined) callback(error ?? new PeerAddressError(), '', 0);
      else if (options.all === true) callback(null, allowed);
      else callback(null, first.address, first.family);
    });
  };
}

/**
 * Why a link failed: a failure of the handshake; the address is not allowed; nothing listens there, or it closed during the
 * handshake; it took too long; the caller has aborted.
 */
export type LinkErrorCode = LinkAuthFailure | 'address' | 'unreachable' | 'timeout' | 'aborted';

const MESSAGES: Readonly<Record<LinkErrorCode, string>> = {
  version: 'the other relay uses another version of the cluster protocol',
  secret: 'the other relay has another secret',
  'not a relay': 'the peer is not a relay',
  tls: 'only one of the two relays uses TLS on links',
  address: 'the other relay’s address is not in RELAY_CLUSTER_NETWORKS, or cannot belong to a relay',
  unreachable: 'the other relay cannot be reached',
  timeout: 'the other relay does not answer',
  aborted: 'the connection attempt was aborted',
};

/** Why a link failed. Its message contains no address. */
export class LinkError extends Error {
  readonly code: LinkErrorCode;
  /** The other end accepted the connection and closed it during the handshake: all its pending slots may be in use. */
  readonly closedDuringAuth: boolean;

  /** @param detail a system error code like `ECONNREFUSED` */
  constructor(code: LinkErrorCode, detail: string | null = null) {
    super(detail === null ? MESSAGES[code] : `${MESSAGES[code]} (${detail})`);
    this.code = code;
    this.closedDuringAuth = code === 'unreachable' && detail === null;
  }
}

/** The properties of all links of a relay, from it and to it. */
export interface LinkConfig {
  readonly backend: IoBackend;
  /** From `linkAuthKey`. Derived once: that takes longer than the rest of a handshake. */
  readonly key: KeyObject;
  /** Null: links are not encrypted. The same on all relays of the cluster. */
  readonly tls: LinkTls | null;
  /** Other addresses are neither connected to nor accepted. */
  readonly networks: PeerNetworks;
}

export interface LinkClientOptions extends LinkConfig {
  readonly address: { readonly host: string; readonly port: number };
  /** For the name lookup, the connection and the handshake together. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface Link {
  /** It is paused. Start it before awaiting anything else, so that its end is not missed, and resume it. */
  readonly stream: ByteStream;
  /** Bytes that came behind the handshake. */
  readonly firstBytes: Uint8Array;
}

/**
 * Opens a link to another relay.
 *
 * @throws LinkError, and nothing else
 */
export function connectLink(options: LinkClientOptions): Promise<Link> {
  return new Promise((resolve, reject) => {
    new LinkConnector(options, resolve, reject).start();
  });
}

class LinkConnector implements ByteStreamHandler {
  readonly #options: LinkClientOptions;
  /** Null once TLS has started, which authenticates both ends. */
  #auth: LinkAuth | null;
  readonly #resolve: (link: Link) => void;
  readonly #reject: (error: LinkError) => void;
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort = (): void => this.#fail('aborted');
  #socket: Socket | null = null;
  /** The same connection, once it is open. */
  #stream: ByteStream | null = null;
  #isDone = false;

  constructor(options: LinkClientOptions, resolve: (link: Link) => void, reject: (error: LinkError) => void) {
    this.#options = options;
    this.#auth = options.tls === null ? new LinkClientAuth(options.key) : new TlsOffer();
    this.#resolve = resolve;
    this.#reject = reject;
    this.#timer = setTimeout(() => this.#fail('timeout'), options.timeoutMs);
  }

  start(): void {
    const { address, networks, signal } = this.#options;
    if (signal?.aborted === true) {
      this.#fail('aborted');
      return;
    }
    signal?.addEventListener('abort', this.#onAbort);
    // Node.js does not call `lookup` for an IP address.
    if (isIP(address.host) !== 0 && !networks.allowsOutgoing(address.host)) {
      this.#fail('address');
      return;
    }
    try {
      const socket = connect({ ...address, lookup: networks.lookup, allowHalfOpen: true });
      this.#socket = socket;
      const onError = (error: Error): void => {
        if (error instanceof PeerAddressError) this.#fail('address');
        else this.#fail('unreachable', errorCode(error));
      };
      socket.on('error', onError);
      socket.once('connect', () => {
        socket.off('error', onError);
        this.#stream = this.#options.backend.adoptSocket(socket, 'tcp');
        this.#stream.start(this);
      });
    } catch (error) {
      // The address came from the coordinator, and Node.js throws if the port is invalid.
      this.#fail('unreachable', errorCode(error));
    }
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#isDone) return;
    const step = this.#auth?.receive(bytes);
    // With TLS nothing can come before it has authenticated the owner.
    if (step === undefined) this.#fail('not a relay');
    else if (step.kind === 'failed') this.#fail(step.failure);
    else if (step.kind === 'authenticated') this.#succeed(Uint8Array.from(step.rest));
    else if (step.kind === 'begin-tls') this.#startTls();
    else if (step.send !== '') this.#stream?.write(Buffer.from(step.send));
  }

  onWritable(): void {
    // Only one short line is ever sent.
  }

  onEnd(): void {
    // Not `not a relay`: a relay without a free pending slot closes too, and so does a proxy without a backend.
    this.#fail('unreachable');
  }

  onClose(): void {
    this.#fail('unreachable');
  }

  #startTls(): void {
    const { backend, tls } = this.#options;
    if (tls === null || this.#stream === null) return;
    this.#auth = null;
    this.#stream = tls.wrap('client', backend, this.#stream, {
      onAuthenticated: () => this.#succeed(EMPTY_BYTES),
      onFailed: (failure) => this.#fail(failure),
    });
    this.#stream.start(this);
  }

  #succeed(firstBytes: Uint8Array): void {
    const stream = this.#stream;
    if (stream === null || !this.#settle()) return;
    stream.pause();
    this.#resolve({ stream, firstBytes });
  }

  #fail(code: LinkErrorCode, detail: string | null = null): void {
    if (!this.#settle()) return;
    if (this.#stream === null) this.#socket?.destroy();
    else this.#stream.abort();
    this.#reject(new LinkError(code, detail));
  }

  /** False if it has succeeded or failed already. */
  #settle(): boolean {
    if (this.#isDone) return false;
    this.#isDone = true;
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    return true;
  }
}
