import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { sourceAddress } from './source-address.ts';

/** Connection attempts under way at once. More than the kernel's backlog would measure SYN retries. */
const CONNECTING_AT_ONCE = 500;

/** Addresses that a crowd comes from. */
export const ADDRESSES = 4;

/** What is kept of what the relay says to one of the crowd, in bytes. */
const MAX_HEARD_BYTES = 4096;

const SECOND_MS = 1000;

/** One of the crowd. */
export interface Stranger {
  readonly socket: Socket;
  readonly index: number;
  /** What the relay has said, up to `MAX_HEARD_BYTES`. */
  heard: Buffer;
}

/** What each of a crowd does. */
export interface Behaviour {
  /** Goes on when the relay has sent a FIN. */
  readonly staysHalfOpen?: boolean;
  /** Never reads. */
  readonly isDeaf?: boolean;
  /** What an end is called that the relay brought about. Default: what the relay has said, as text. */
  readonly nameOf?: (stranger: Stranger) => string;
  readonly connected?: (stranger: Stranger) => void;
  readonly hears?: (stranger: Stranger) => void;
  /** Called once a second while it is connected. */
  readonly everySecond?: (stranger: Stranger) => void;
}

/** Numbers of connections by how they ended. */
export type Ends = Readonly<Record<string, number>>;

/** Very many connections that behave alike. */
export class Crowd {
  readonly #port: number;
  readonly #behaviour: Behaviour;
  readonly #strangers = new Set<Stranger>();
  readonly #ends: Record<string, number> = {};
  readonly #timer: NodeJS.Timeout;
  #connected = 0;
  #failed = 0;
  #isLeaving = false;
  #whenEmpty: () => void = () => undefined;

  constructor(port: number, behaviour: Behaviour) {
    this.#port = port;
    this.#behaviour = behaviour;
    this.#timer = setInterval(() => {
      for (const stranger of this.#strangers) behaviour.everySecond?.(stranger);
    }, SECOND_MS);
  }

  get connected(): number {
    return this.#connected;
  }

  /** Connections that could not be made. */
  get failed(): number {
    return this.#failed;
  }

  /** Those that are still connected. */
  get strangers(): Iterable<Stranger> {
    return this.#strangers;
  }

  /** Connects so many, as fast as it goes. Resolves when each has succeeded or failed. */
  async open(count: number): Promise<void> {
    let next = 0;
    const connectOneAfterTheOther = async (): Promise<void> => {
      while (next < count) {
        next += 1;
        await this.connect(next - 1);
      }
    };
    await Promise.all(Array.from({ length: CONNECTING_AT_ONCE }, connectOneAfterTheOther));
  }

  /** Connects one. Resolves with null where that fails. */
  connect(index: number): Promise<Stranger | null> {
    const { connected, hears, isDeaf = false, staysHalfOpen = false } = this.#behaviour;
    return new Promise((resolve) => {
      const socket = connect({
        port: this.#port,
        host: '127.0.0.1',
        localAddress: sourceAddress(index, ADDRESSES),
        allowHalfOpen: staysHalfOpen,
        noDelay: true,
      });
      const stranger: Stranger = { socket, index, heard: Buffer.alloc(0) };
      let how = '';
      socket.once('connect', () => {
        this.#connected += 1;
        this.#strangers.add(stranger);
        connected?.(stranger);
        resolve(stranger);
      });
      if (!isDeaf) {
        socket.on('data', (bytes: Buffer) => {
          if (stranger.heard.length < MAX_HEARD_BYTES)
            stranger.heard = Buffer.concat([stranger.heard, bytes]);
          hears?.(stranger);
        });
      }
      socket.once('end', () => {
        how = 'FIN';
      });
      socket.once('error', () => {
        // A write may fail behind the FIN of a relay that has gone.
        how ||= 'reset';
      });
      socket.once('close', () => {
        if (this.#strangers.delete(stranger)) this.#ended(stranger, how);
        else this.#failed += 1;
        resolve(null);
      });
    });
  }

  /** Resolves when nobody is left, with how they ended. */
  async ended(): Promise<Ends> {
    if (this.#strangers.size > 0) {
      await new Promise<void>((resolve) => {
        this.#whenEmpty = resolve;
      });
    }
    clearInterval(this.#timer);
    return this.#ends;
  }

  /** All who are left leave: some with a FIN, some with a reset. */
  leave(): void {
    this.#isLeaving = true;
    for (const { socket, index } of this.#strangers) {
      // A reset behind a FIN is more than Node can do.
      if (index % 2 === 0 || socket.writableEnded) socket.destroy();
      else socket.resetAndDestroy();
    }
  }

  #ended(stranger: Stranger, how: string): void {
    const { nameOf = textOf } = this.#behaviour;
    const parts = this.#isLeaving ? ['left'] : [nameOf(stranger), how];
    const name = parts.filter((part) => part !== '').join(', ');
    this.#ends[name] = (this.#ends[name] ?? 0) + 1;
    if (this.#strangers.size === 0) this.#whenEmpty();
  }
}

function textOf({ heard }: Stranger): string {
  return heard.toString('latin1').trimEnd();
}
