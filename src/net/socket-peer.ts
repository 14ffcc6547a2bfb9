import type { CloseCode } from '../protocol/session.ts';
import { Linger, lingerMsFor } from './linger.ts';
import type { Peer, PeerHandler, Transport } from './peer.ts';
import type { Wire, WireHandler } from './wire.ts';

/** A client that came by TCP or by a unix-domain socket: the bytes are the payload. */
export class SocketPeer implements Peer, WireHandler {
  readonly #wire: Wire;
  #handler: PeerHandler | null = null;
  #linger: Linger | null = null;

  constructor(wire: Wire) {
    this.#wire = wire;
  }

  get transport(): Transport {
    return this.#wire.kind;
  }

  get heldBytes(): number {
    return this.#wire.heldBytes;
  }

  get deliveredBytes(): number {
    return this.#wire.deliveredBytes;
  }

  start(handler: PeerHandler): void {
    this.#handler = handler;
    this.#wire.start(this);
  }

  send(bytes: Uint8Array): boolean {
    return this.#wire.write(bytes);
  }

  pause(): void {
    this.#wire.pause();
  }

  resume(): void {
    this.#wire.resume();
  }

  readLess(): void {
    this.#wire.readLess();
  }

  probe(): void {
    this.#wire.probe();
  }

  finish(_code: CloseCode, hadPartner: boolean): void {
    if (this.#linger !== null) return;
    this.#linger = new Linger(this.#wire, lingerMsFor(hadPartner));
    this.#wire.end();
  }

  destroy(): void {
    this.#wire.destroy();
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#linger === null) this.#handler?.onData(bytes);
    else this.#linger.discarded(bytes.length);
  }

  onDrain(): void {
    this.#handler?.onDrain();
  }

  onEnd(): void {
    this.#handler?.onLeft();
  }

  onLost(): void {
    this.#linger?.cancel();
    this.#handler?.onLost();
  }
}
