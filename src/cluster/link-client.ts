import type { KeyObject } from 'node:crypto';
import { connect, isIP } from 'node:net';
import type { Socket } from 'node:net';
import { errorCode } from '../process/error-code.ts';
import type { ByteStream, ByteStreamHandler } from '../transport/byte-stream.ts';
import type { IoBackend } from '../transport/io-backend.ts';
import { LinkClientAuth, TlsOffer } from './link-auth.ts';
import type { LinkAuthFailure } from './link-auth.ts';
import type { LinkTls } from './link-tls.ts';
import { PeerAddressError } from './peer-networks.ts';
import type { PeerNetworks } from './peer-networks.ts';

/**
 * Why there is no link: a fault of the other end's greeting; its address is not allowed; nobody is there, or it went in the middle of it; it took too long;
 * the one who called has changed its mind.
 */
export type LinkErrorCode = LinkAuthFailure | 'address' | 'unreachable' | 'timeout' | 'aborted';

const MESSAGES: Readonly<Record<LinkErrorCode, string>> = {
  version: 'the other relay speaks another version of the cluster protocol',
  secret: 'the other relay has another secret',
  'not a relay': 'what answers there is no relay',
  tls: 'one of the two relays wants TLS on links, and the other does not',
  address: 'the other relay’s address is not in RELAY_CLUSTER_NETWORKS, or is none that a relay can have',
  unreachable: 'the other relay can not be reached',
  timeout: 'the other relay does not answer',
  aborted: 'the call was aborted',
};

/** Why a call failed. Its message names no address. */
export class LinkError extends Error {
  readonly code: LinkErrorCode;
  /** Somebody is there, and went in the middle of the greeting: it may have had no place. */
  readonly closedDuringAuth: boolean;

  /** @param detail what the system has to say of it, like `ECONNREFUSED` */
  constructor(code: LinkErrorCode, detail: string | null = null) {
    super(detail === null ? MESSAGES[code] : `${MESSAGES[code]} (${detail})`);
    this.code = code;
    this.closedDuringAuth = code === 'unreachable' && detail === null;
  }
}

export interface LinkClientOptions {
  readonly backend: IoBackend;
  /** Of what all relays of the cluster have in common. */
  readonly key: KeyObject;
  /** Null: links are not encrypted. */
  readonly tls: LinkTls | null;
  /** Addresses outside of these are not connected to. */
  readonly networks: PeerNetworks;
  readonly address: { readonly host: string; readonly port: number };
  /** For everything together: the name, the connection, the greeting. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface Link {
  /**
   * It is paused. Start it before anything else is awaited, so that no end of it is missed, and resume it.
   */
  readonly stream: ByteStream;
  /** What has come behind the greeting. */
  readonly firstBytes: Uint8Array;
}

/**
 * Opens a link to another relay.
 *
 * @throws LinkError, and nothing else
 */
export function connectLink(call: LinkClientOptions): Promise<Link> {
  return new Promise((resolve, reject) => {
    new LinkConnector(call, resolve, reject).start();
  });
}

class LinkConnector implements ByteStreamHandler {
  readonly #options: LinkClientOptions;
  readonly #auth: LinkClientAuth;
  readonly #resolve: (link: Link) => void;
  readonly #reject: (error: LinkError) => void;
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort = (): void => this.#fail('aborted');
  #socket: Socket | null = null;
  /** The same connection, once it is open. */
  #stream: ByteStream | null = null;
  /** Null where TLS has begun, and where there is none. */
  #tlsOffer: TlsOffer | null = null;
  #isDone = false;

  constructor(call: LinkClientOptions, answered: (link: Link) => void, failed: (error: LinkError) => void) {
    this.#options = call;
    this.#auth = new LinkClientAuth(call.key);
    this.#resolve = answered;
    this.#reject = failed;
    this.#timer = setTimeout(() => this.#fail('timeout'), call.timeoutMs);
  }

  start(): void {
    const { address, networks, signal } = this.#options;
    if (signal?.aborted === true) {
      this.#fail('aborted');
      return;
    }
    signal?.addEventListener('abort', this.#onAbort);
    // For an address, no name is looked up.
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
        this.#authenticate(socket);
      });
    } catch (error) {
      // The address came from elsewhere, and Node throws where a port is none.
      this.#fail('unreachable', errorCode(error));
    }
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#isDone) return;
    if (this.#tlsOffer !== null) {
      this.#onTlsOffer(this.#tlsOffer.receive(bytes));
      return;
    }
    const step = this.#auth.receive(bytes);
    if (step.kind === 'failed') this.#fail(step.fault);
    else if (step.kind === 'proven') this.#succeed(Uint8Array.from(step.rest));
    else this.#stream?.write(Buffer.from(step.say));
  }

  onWritable(): void {
    // One short line is all that is ever sent.
  }

  onEnd(): void {
    // Not `not a relay`: what passes connections on to nobody accepts them first, and a relay that has no place does too.
    this.#fail('unreachable');
  }

  onClose(): void {
    this.#fail('unreachable');
  }

  #authenticate(socket: Socket): void {
    const { backend, tls } = this.#options;
    if (tls !== null) this.#tlsOffer = new TlsOffer();
    this.#stream = backend.adoptSocket(socket, 'tcp');
    this.#stream.start(this);
  }

  #onTlsOffer(answer: ReturnType<TlsOffer['receive']>): void {
    const { backend, tls } = this.#options;
    if (answer === 'unfinished') return;
    if (answer !== 'begin' || tls === null || this.#stream === null) {
      this.#fail(answer === 'begin' ? 'tls' : answer);
      return;
    }
    this.#tlsOffer = null;
    this.#stream = tls.wrapClient(backend, this.#stream, (fault) => this.#fail(fault));
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

  /** False where it is finished already. */
  #settle(): boolean {
    if (this.#isDone) return false;
    this.#isDone = true;
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    return true;
  }
}
