import { METHODS } from 'node:http';
import { parseProxyHeader } from '../protocol/proxy-header.ts';
import type { Arrival, ArrivalOwner } from './arrival.ts';
import type { TrustedProxies } from './trusted-proxies.ts';
import type { Wire, WireHandler } from './wire.ts';
import { NOTHING } from './wire.ts';

/** What becomes of connections once they have shown what they are. */
export interface Rooms {
  /** Clients that send their line as it is. Null: there are none here, and everything is taken for HTTP. */
  readonly raw: ((wire: Wire, arrival: Arrival) => WireHandler) | null;
  /** What speaks HTTP: WebSocket clients and browsers. */
  http(wire: Wire, arrival: Arrival, firstBytes: Uint8Array): void;
  /** Null: TLS is not spoken here. */
  readonly tls: { wrap(wire: Wire, firstBytes: Uint8Array, address: string | null): Wire } | null;
  /** Null: nobody is believed to come for somebody else. */
  readonly proxies: TrustedProxies | null;
  /** Null: nobody asks where connections come from. */
  readonly comesFrom: ((arrival: Arrival, address: string) => void) | null;
  /** It is gone, and nothing has become of it. */
  left(arrival: Arrival): void;
}

/** The first byte of a TLS record that opens a handshake (RFC 8446, 5.1). */
const TLS_HANDSHAKE = 0x16;

/** Methods are upper case. */
const UPPER_CASE_Z = 0x5a;

const encoder = new TextEncoder();

/** The first words of HTTP clients. `PRI` opens HTTP/2 (RFC 9113, section 3.4) and is answered with 400. */
const HTTP_METHODS = [...METHODS, 'PRI'].map((method) => encoder.encode(`${method} `));

/** What raw clients are told for which there is no place. */
const BUSY = encoder.encode('busy\n');

/**
 * A connection that has not shown what it is. Its first bytes tell, and no kind of client waits for the relay to speak first.
 *
 * A proxy's header comes first of all, then TLS, and what is inside of it is looked at in the same way.
 */
export class Entrance implements WireHandler, ArrivalOwner {
  readonly #wire: Wire;
  readonly #arrival: Arrival;
  readonly #rooms: Rooms;
  #head: Uint8Array = NOTHING;
  readonly #isInsideTls: boolean;
  #mayBeProxied = false;
  /** The client's, where a proxy has said it. */
  #address: string | null = null;

  constructor(wire: Wire, arrival: Arrival, rooms: Rooms, isInsideTls = false) {
    this.#wire = wire;
    this.#arrival = arrival;
    this.#rooms = rooms;
    this.#isInsideTls = isInsideTls;
  }

  /** Begins to listen to it. */
  start(): void {
    this.#arrival.owner = this;
    this.#wire.start(this);
    if (!this.#isInsideTls) this.#lookWhereFrom();
  }

  onBytes(bytes: Uint8Array): void {
    // The handshake of TLS is done.
    if (this.#isInsideTls) this.#arrival.failure = 'left';
    const head = this.#head.length === 0 ? bytes : Buffer.concat([this.#head, bytes]);
    const rest = this.#mayBeProxied ? this.#readProxyHeader(head) : head;
    if (rest !== null) this.#direct(rest);
  }

  onDrain(): void {
    // Nothing was sent.
  }

  onEnd(): void {
    const client = this.#asRaw();
    if (client === null) this.#wire.destroy();
    else client.onEnd();
  }

  onLost(): void {
    const client = this.#asRaw();
    if (client === null) this.#rooms.left(this.#arrival);
    else client.onLost();
  }

  tooLate(): void {
    if (this.#asRaw() === null) this.#wire.destroy();
    else this.#arrival.owner?.tooLate();
  }

  shutdown(): void {
    if (this.#asRaw() === null) this.#wire.destroy();
    else this.#arrival.owner?.shutdown();
  }

  evict(): void {
    turnAway(this.#wire, this.#rooms.raw !== null && !this.#isInsideTls);
  }

  cut(): void {
    this.#wire.destroy();
  }

  #lookWhereFrom(): void {
    const { proxies, comesFrom } = this.#rooms;
    if (proxies === null && comesFrom === null) return;
    const address = this.#wire.ends?.remote ?? null;
    // What is gone already has no address either, and must not be taken for a unix-domain socket.
    if (address === null && this.#wire.kind !== 'unix') return;
    this.#mayBeProxied = proxies?.trusts(address) === true;
    // Behind a proxy it is the header that tells, and where there is none, nobody is counted.
    if (!this.#mayBeProxied && address !== null) comesFrom?.(this.#arrival, address);
  }

  /** What comes behind the header; null when it is not whole, or nothing more is of interest. */
  #readProxyHeader(head: Uint8Array): Uint8Array | null {
    const header = parseProxyHeader(head);
    if (header.kind === 'incomplete') {
      this.#keep(head);
      return null;
    }
    this.#mayBeProxied = false;
    if (header.kind !== 'proxy') return head;
    const { address } = header;
    this.#address = address;
    // What this proxy had from another trusted one, that one may tell whom it is from.
    if (address === null || this.#rooms.proxies?.trusts(address) === true) return header.rest;
    this.#rooms.comesFrom?.(this.#arrival, address);
    return header.rest;
  }

  #direct(head: Uint8Array): void {
    const { raw, tls } = this.#rooms;
    const isHttp = raw === null || startsWithMethod(head);
    if (head.length === 0) {
      this.#head = NOTHING;
    } else if (tls !== null && !this.#isInsideTls && head[0] === TLS_HANDSHAKE) {
      this.#arrival.failure = 'tls';
      const inside = tls.wrap(this.#wire, head, this.#address ?? this.#wire.ends?.remote ?? null);
      new Entrance(inside, this.#arrival, this.#rooms, true).start();
    } else if (raw === null || isHttp === true) {
      this.#arrival.failure = 'http';
      this.#rooms.http(this.#wire, this.#arrival, head);
    } else if (isHttp === null) {
      this.#keep(head);
    } else {
      raw(this.#wire, this.#arrival).onBytes(head);
    }
  }

  #keep(head: Uint8Array): void {
    // The read buffer is not ours to keep.
    this.#head = Uint8Array.from(head);
  }

  /** Nothing more is expected of it: where there are raw clients, it was one of them. */
  #asRaw(): WireHandler | null {
    return this.#rooms.raw?.(this.#wire, this.#arrival) ?? null;
  }
}

/** Closes a connection for which there is no place at all. Waits for nothing: it may be one of very many. */
export function turnAway(wire: Wire, isRaw: boolean): void {
  if (isRaw) wire.write(BUSY);
  wire.destroy();
}

/** Whether these bytes begin with an HTTP method and a space. Null: they are the beginning of one. */
function startsWithMethod(bytes: Uint8Array): boolean | null {
  if ((bytes[0] ?? 0) > UPPER_CASE_Z) return false;
  const method = HTTP_METHODS.find((one) =>
    bytes.subarray(0, one.length).every((byte, at) => byte === one[at]),
  );
  if (method === undefined) return false;
  return bytes.length >= method.length ? true : null;
}
