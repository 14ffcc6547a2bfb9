import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { sourceAddress } from './source-address.ts';

/**
 * Concurrent connection attempts. More than the listen backlog would measure SYN retries, and more than
 * `MAX_HTTP_CONNECTIONS` would evict each other before their upgrade.
 */
const CONNECTING_AT_ONCE = 500;

/** Number of source addresses. */
export const ADDRESSES = 4;

/** Maximum number of received bytes kept per connection. */
const MAX_RECEIVED_BYTES = 4096;

const SECOND_MS = 1000;

/** One client of the flood. */
export interface FloodClient {
  readonly socket: Socket;
  readonly index: number;
  /** Received bytes, up to `MAX_RECEIVED_BYTES`. */
  received: Buffer;
}

/** Behaviour of each client. */
export interface Behaviour {
  /** Stays connected after the relay has sent a FIN. */
  readonly staysHalfOpen?: boolean;
  /** Never reads. */
  readonly neverReads?: boolean;
  /**
   * Whether the next client may connect. Default: as soon as it is connected. Clients that need an answer first are
   * never more than those that connect at once.
   */
  readonly isReady?: (client: FloodClient) => boolean;
  /** Name of an end caused by the relay. Default: the received bytes as text. */
  readonly nameOf?: (client: FloodClient) => string;
  readonly onConnect?: (client: FloodClient) => void;
  readonly onData?: (client: FloodClient) => void;
  /** Called once a second while connected. */
  readonly everySecond?: (client: FloodClient) => void;
}

/** Numbers of connections by how they ended. */
export type Ends = Readonly<Record<string, number>>;

/** Thousands of connections with the same behaviour. */
export class ClientFlood {
  readonly #port: number;
  readonly #behaviour: Behaviour;
  readonly #clients = new Set<FloodClient>();
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
      for (const client of this.#clients) behaviour.everySecond?.(client);
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
  get clients(): Iterable<FloodClient> {
    return this.#clients;
  }

  /** Opens that many connections as fast as possible. Resolves when each has succeeded or failed. */
  async open(count: number): Promise<void> {
    let next = 0;
    const connectNext = async (): Promise<void> => {
      while (next < count) {
        next += 1;
        await this.connect(next - 1);
      }
    };
    await Promise.all(Array.from({ length: CONNECTING_AT_ONCE }, connectNext));
  }

  /** Opens one connection. Resolves with null if that fails. */
  connect(index: number): Promise<FloodClient | null> {
    const { onConnect, onData, isReady, neverReads = false, staysHalfOpen = false } = this.#behaviour;
    return new Promise((resolve) => {
      const socket = connect({
        port: this.#port,
        host: '127.0.0.1',
        localAddress: sourceAddress(index, ADDRESSES),
        allowHalfOpen: staysHalfOpen,
        noDelay: true,
      });
      const client: FloodClient = { socket, index, received: Buffer.alloc(0) };
      let how = '';
      socket.once('connect', () => {
        this.#connected += 1;
        this.#clients.add(client);
        onConnect?.(client);
        if (isReady === undefined) resolve(client);
      });
      if (!neverReads) {
        socket.on('data', (bytes: Buffer) => {
          if (client.received.length < MAX_RECEIVED_BYTES)
            client.received = Buffer.concat([client.received, bytes]);
          onData?.(client);
          if (isReady?.(client) === true) resolve(client);
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
        if (this.#clients.delete(client)) this.#ended(client, how);
        else this.#failed += 1;
        resolve(null);
      });
    });
  }

  /** Resolves with the ends when no connection is left. */
  async ended(): Promise<Ends> {
    if (this.#clients.size > 0) {
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
    for (const { socket, index } of this.#clients) {
      // Node cannot send a reset after a FIN.
      if (index % 2 === 0 || socket.writableEnded) socket.destroy();
      else socket.resetAndDestroy();
    }
  }

  #ended(client: FloodClient, how: string): void {
    const { nameOf = textOf } = this.#behaviour;
    // The relay may have ended it before.
    const parts = this.#isLeaving && how === '' ? ['left'] : [nameOf(client), how];
    const name = parts.filter((part) => part !== '').join(', ');
    this.#ends[name] = (this.#ends[name] ?? 0) + 1;
    if (this.#clients.size === 0) this.#whenEmpty();
  }
}

function textOf({ received }: FloodClient): string {
  return received.toString('latin1').trimEnd();
}
