import type { Wire, WireHandler } from '../net/wire.ts';
import type { GreetingFault, OwnerGreeting } from './greeting.ts';

/**
 * What became of somebody who has not proved itself: a fault of its greeting, `timeout` where that took too long, `left` where it
 * went by itself, `crowded` where there were too many like it, `closed` where nobody is let in any more,
 * `address` where it came from outside of `RELAY_CLUSTER_NETWORKS`.
 */
export type LinkFailure = GreetingFault | 'address' | 'timeout' | 'left' | 'crowded' | 'closed';

/** How long a greeting may take, in milliseconds: some round trips of the worst network there is. */
const GREETING_MS = 5000;

/** How long it takes where all is well, generously, in milliseconds. Who takes longer gives way where there is a crowd. */
const SWIFT_MS = 500;

/** Who a guest belongs to. One of these is called, once. */
export interface LinkHost {
  /** It has proved itself; the wire is the host's. The bytes lie in memory that the next read will use. */
  proven(guest: LinkGuest, firstBytes: Uint8Array): void;
  /** It is gone, or its wire is about to close. */
  failed(guest: LinkGuest, failure: LinkFailure): void;
}

/** Somebody who has connected and not proved itself yet. */
export class LinkGuest implements WireHandler {
  readonly wire: Wire;
  readonly #greeting: OwnerGreeting;
  readonly #host: LinkHost;
  #timer: NodeJS.Timeout;
  #isSlow = false;
  #isDone = false;

  constructor(wire: Wire, greeting: OwnerGreeting, host: LinkHost) {
    this.wire = wire;
    this.#greeting = greeting;
    this.#host = host;
    this.#timer = setTimeout(() => {
      this.#isSlow = true;
      this.#timer = setTimeout(() => this.cut('timeout'), GREETING_MS - SWIFT_MS);
    }, SWIFT_MS);
  }

  /** It takes longer than a relay does. */
  get isSlow(): boolean {
    return this.#isSlow;
  }

  /** Begins to listen to it. */
  start(): void {
    this.wire.start(this);
  }

  /** Speaks first. */
  greet(): void {
    this.wire.write(Buffer.from(this.#greeting.opening));
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#isDone) return;
    const step = this.#greeting.take(bytes);
    if (step.say !== '') this.wire.write(Buffer.from(step.say));
    if (step.kind === 'failed') this.cut(step.fault);
    if (step.kind !== 'proven') return;
    this.#finish();
    this.#host.proven(this, step.rest);
  }

  onDrain(): void {
    // Two short lines are all that is ever sent.
  }

  onEnd(): void {
    this.cut('left');
  }

  onLost(): void {
    this.cut('left');
  }

  /** Closes it, and says why. Does nothing once it is done. */
  cut(failure: LinkFailure): void {
    if (this.#isDone) return;
    this.#finish();
    this.wire.destroy();
    this.#host.failed(this, failure);
  }

  #finish(): void {
    this.#isDone = true;
    clearTimeout(this.#timer);
  }
}
