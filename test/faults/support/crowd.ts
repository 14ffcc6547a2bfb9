import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { sourceAddress } from './source-address.ts';

/** Concurrent connection attempts. More than the listen backlog would measure SYN retries. */
const CONNECTING_AT_ONCE = 500;

/** Number of source addresses. */
export const ADDRESSES = 4;

/** Maximum number of received bytes kept per connection. */
const MAX_HEARD_BYTES = 4096;

const SECOND_MS = 1000;

/** One client of the flood. */
export interface Stranger {
  readonly socket: Socket;
  readonly index: number;
  /** Received bytes, up to `MAX_HEARD_BYTES`. */
  heard: Buffer;
}

/** Behaviour of each client. */
export interface Behaviour {
  /** Stays connected after the relay has sent a FIN. */
  readonly staysHalfOpen?: boolean;
  /** Never reads. */
  readonly isDeaf?: boolean;
  /** Name of an end caused by the relay. Default: the received bytes as text. */
  readonly nameOf?: (stranger: Stranger) => string;
  readonly connected?: (stranger: Stranger) => void;
  readonly hears?: (stranger: Stranger) => void;
  /** Called once a second while connected. */
  readonly everySecond?: (stranger: Stranger) => void;
}

/** Numbers of connections by how they ended. */
export type Ends = Readonly<Record<string, number>>;

/** Very many connections with the same behaviour. */
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

  /** Failed connection attempts. */
  get failed(): number {
    return this.#failed;
  }

  /** Open connections. */
  get strangers(): Iterable<Stranger> {
    return this.#strangers;
  }

  /** Opens that many connections as fast as possible. Resolves when each has succeeded or failed. */
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

  /** Opens one connection. Resolves with null if that fails. */
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
        // A write may fail after the FIN of a relay that has closed.
        how ||= 'reset';
      });
      socket.once('close', () => {
        if (this.#strangers.delete(stranger)) this.#ended(stranger, how);
        else this.#failed += 1;
        resolve(null);
      });
    });
  }

  /** Resolves with the ends when no connection is left. */
  async ended(): Promise<Ends> {
    if (this.#strangers.size > 0) {
      await new Promise<void>((resolve) => {
        this.#whenEmpty = resolve;
      });
    }
    clearInterval(this.#timer);
    return this.#ends;
  }

  /** Closes all remaining connections: some with a FIN, some with a reset. */
  leave(): void {
    this.#isLeaving = true;
    for (const { socket, index } of this.#strangers) {
      // Node cannot send a reset after a FIN.
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
