import type { KeyObject } from 'node:crypto';
import { connect, isIP } from 'node:net';
import type { Socket } from 'node:net';
import { errorCode } from '../error-code.ts';
import type { DataPlane } from '../net/data-plane.ts';
import type { Wire, WireHandler } from '../net/wire.ts';
import { CallerGreeting, TlsInvitation } from './greeting.ts';
import type { GreetingFault } from './greeting.ts';
import type { LinkTls } from './link-tls.ts';
import { PeerAddressError } from './peer-networks.ts';
import type { PeerNetworks } from './peer-networks.ts';

/**
 * Why there is no link: a fault of the other end's greeting; its address is not allowed; nobody is there, or it went in the middle of it; it took too long;
 * the one who called has changed its mind.
 */
export type LinkErrorCode = GreetingFault | 'address' | 'unreachable' | 'timeout' | 'aborted';

const REASONS: Readonly<Record<LinkErrorCode, string>> = {
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
  readonly isTurnedAway: boolean;

  /** @param detail what the system has to say of it, like `ECONNREFUSED` */
  constructor(code: LinkErrorCode, detail: string | null = null) {
    super(detail === null ? REASONS[code] : `${REASONS[code]} (${detail})`);
    this.code = code;
    this.isTurnedAway = code === 'unreachable' && detail === null;
  }
}

export interface LinkCall {
  readonly plane: DataPlane;
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
  readonly wire: Wire;
  /** What has come behind the greeting. */
  readonly firstBytes: Uint8Array;
}

/**
 * Opens a link to another relay.
 *
 * @throws LinkError, and nothing else
 */
export function callRelay(call: LinkCall): Promise<Link> {
  return new Promise((resolve, reject) => {
    new OutgoingCall(call, resolve, reject).start();
  });
}

class OutgoingCall implements WireHandler {
  readonly #call: LinkCall;
  readonly #greeting: CallerGreeting;
  readonly #answered: (link: Link) => void;
  readonly #failed: (error: LinkError) => void;
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort = (): void => this.#fail('aborted');
  #socket: Socket | null = null;
  /** The same connection, once it is open. */
  #wire: Wire | null = null;
  /** Null where TLS has begun, and where there is none. */
  #invitation: TlsInvitation | null = null;
  #isDone = false;

  constructor(call: LinkCall, answered: (link: Link) => void, failed: (error: LinkError) => void) {
    this.#call = call;
    this.#greeting = new CallerGreeting(call.key);
    this.#answered = answered;
    this.#failed = failed;
    this.#timer = setTimeout(() => this.#fail('timeout'), call.timeoutMs);
  }

  start(): void {
    const { address, networks, signal } = this.#call;
    if (signal?.aborted === true) {
      this.#fail('aborted');
      return;
    }
    signal?.addEventListener('abort', this.#onAbort);
    // For an address, no name is looked up.
    if (isIP(address.host) !== 0 && !networks.allows(address.host)) {
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
        this.#greet(socket);
      });
    } catch (error) {
      // The address came from elsewhere, and Node throws where a port is none.
      this.#fail('unreachable', errorCode(error));
    }
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#isDone) return;
    if (this.#invitation !== null) {
      this.#beInvited(this.#invitation.take(bytes));
      return;
    }
    const step = this.#greeting.take(bytes);
    if (step.kind === 'failed') this.#fail(step.fault);
    else if (step.kind === 'proven') this.#succeed(Uint8Array.from(step.rest));
    else this.#wire?.write(Buffer.from(step.say));
  }

  onDrain(): void {
    // One short line is all that is ever sent.
  }

  onEnd(): void {
    // Not `not a relay`: what passes connections on to nobody accepts them first, and a relay that has no place does too.
    this.#fail('unreachable');
  }

  onLost(): void {
    this.#fail('unreachable');
  }

  #greet(socket: Socket): void {
    const { plane, tls } = this.#call;
    if (tls !== null) this.#invitation = new TlsInvitation();
    this.#wire = plane.wireOfSocket(socket, 'tcp');
    this.#wire.start(this);
  }

  #beInvited(answer: ReturnType<TlsInvitation['take']>): void {
    const { plane, tls } = this.#call;
    if (answer === 'unfinished') return;
    if (answer !== 'begin' || tls === null || this.#wire === null) {
      this.#fail(answer === 'begin' ? 'tls' : answer);
      return;
    }
    this.#invitation = null;
    this.#wire = tls.asCaller(plane, this.#wire, (fault) => this.#fail(fault));
    this.#wire.start(this);
  }

  #succeed(firstBytes: Uint8Array): void {
    const wire = this.#wire;
    if (wire === null || !this.#finish()) return;
    wire.pause();
    this.#answered({ wire, firstBytes });
  }

  #fail(code: LinkErrorCode, detail: string | null = null): void {
    if (!this.#finish()) return;
    if (this.#wire === null) this.#socket?.destroy();
    else this.#wire.destroy();
    this.#failed(new LinkError(code, detail));
  }

  /** False where it is finished already. */
  #finish(): boolean {
    if (this.#isDone) return false;
    this.#isDone = true;
    clearTimeout(this.#timer);
    this.#call.signal?.removeEventListener('abort', this.#onAbort);
    return true;
  }
}
