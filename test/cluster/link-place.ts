import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { inspect } from 'node:util';
import { greetingKey } from '../../src/cluster/greeting.ts';
import { LinkError, callRelay } from '../../src/cluster/link-call.ts';
import type { LinkCall, LinkErrorCode } from '../../src/cluster/link-call.ts';
import { LinkDoor } from '../../src/cluster/link-door.ts';
import type { LinkFailure } from '../../src/cluster/link-guest.ts';
import type { LinkTls } from '../../src/cluster/link-tls.ts';
import { PeerNetworks } from '../../src/cluster/peer-networks.ts';
import { DataPlane } from '../../src/net/data-plane.ts';
import { randomBytesOf } from '../support/bytes.ts';
import type { Wire, WireHandler } from '../../src/net/wire.ts';

export const SECRET = 'correct horse';

export const KEY = greetingKey(SECRET);

/** The relays of a test are on the loopback. */
export const LOOPBACK = new PeerNetworks([], '127.0.0.1');

/** Both ways of moving bytes; a link works over each. */
export const PLANES: readonly (readonly [name: DataPlane['kind'], open: () => Promise<DataPlane>])[] = [
  ['shared buffer', () => DataPlane.open(64 * 2 ** 20)],
  ['ordinary streams', () => Promise.resolve(DataPlane.ofOrdinaryStreams())],
];

/** One end of an open link, and what came there. */
export class LinkEnd implements WireHandler {
  readonly wire: Wire;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  isEnded = false;
  isLost = false;
  #wake: () => void = () => undefined;

  constructor(wire: Wire, firstBytes: Uint8Array) {
    this.wire = wire;
    this.onBytes(firstBytes);
    wire.start(this);
    wire.resume();
  }

  get received(): Buffer {
    const joined = Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }

  /** Resolves with everything received once that is `count` bytes, or once the link is gone. */
  async until(count: number): Promise<Buffer> {
    while (this.#bytes < count && !this.isLost) await this.#change();
    return this.received;
  }

  async ended(): Promise<void> {
    while (!this.isEnded && !this.isLost) await this.#change();
  }

  async lost(): Promise<void> {
    while (!this.isLost) await this.#change();
  }

  onBytes(bytes: Uint8Array): void {
    this.#chunks.push(Uint8Array.from(bytes));
    this.#bytes += bytes.length;
    this.#wake();
  }

  onDrain(): void {
    // Nothing here waits for it.
  }

  onEnd(): void {
    this.isEnded = true;
    this.#wake();
  }

  onLost(): void {
    this.isLost = true;
    this.#wake();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** Sends both ways, ends one way and then the other: everything comes, in order. */
export async function useUp(caller: LinkEnd, owner: LinkEnd): Promise<void> {
  const [there, back] = [randomBytesOf(1, 3_000_000), randomBytesOf(2, 2_000_000)];
  const last = Buffer.from('after the FIN');
  caller.wire.write(there);
  owner.wire.write(back);
  assert.ok((await owner.until(there.length)).equals(there));
  assert.ok((await caller.until(back.length)).equals(back));
  caller.wire.end();
  await owner.ended();
  assert.equal(owner.isLost, false);
  owner.wire.write(last);
  assert.ok((await caller.until(back.length + last.length)).subarray(back.length).equals(last));
  owner.wire.end();
  await Promise.all([owner.lost(), caller.lost()]);
}

/** A relay's door for links that listens on loopback, and whoever came through it or didn't. */
export class LinkPlace {
  readonly plane: DataPlane;
  readonly door: LinkDoor;
  readonly port: number;
  readonly #links: LinkEnd[];
  readonly #failures: LinkFailure[];
  readonly #changes: (() => void)[];

  private constructor(
    plane: DataPlane,
    door: LinkDoor,
    port: number,
    books: { links: LinkEnd[]; failures: LinkFailure[]; changes: (() => void)[] },
  ) {
    this.plane = plane;
    this.door = door;
    this.port = port;
    this.#links = books.links;
    this.#failures = books.failures;
    this.#changes = books.changes;
  }

  static async open(
    context: TestContext,
    plane: DataPlane,
    tls: LinkTls | null = null,
    networks = LOOPBACK,
  ): Promise<LinkPlace> {
    const books = {
      links: Array<LinkEnd>(),
      failures: Array<LinkFailure>(),
      changes: Array<() => void>(),
    };
    const changed = (): void => {
      for (const wake of books.changes.splice(0)) wake();
    };
    const door = new LinkDoor({
      plane,
      secret: SECRET,
      tls,
      networks,
      arrived: (wire, firstBytes) => {
        books.links.push(new LinkEnd(wire, firstBytes));
        changed();
      },
      failed: (failure) => {
        books.failures.push(failure);
        changed();
      },
    });
    const server = door.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    context.after(() => {
      server.close();
      door.close();
      for (const link of books.links) link.wire.destroy();
    });
    return new LinkPlace(plane, door, portOf(server.address()), books);
  }

  /** Why strangers have not become links, in the order in which that was told. */
  get failures(): readonly LinkFailure[] {
    return this.#failures;
  }

  get links(): readonly LinkEnd[] {
    return this.#links;
  }

  /** Resolves with the first `count` failures. */
  async failed(count: number): Promise<readonly LinkFailure[]> {
    while (this.#failures.length < count) await this.#change();
    return this.#failures;
  }

  /** Resolves with the link that came as the `index`th. */
  async link(index = 0): Promise<LinkEnd> {
    for (;;) {
      const link = this.#links[index];
      if (link !== undefined) return link;
      await this.#change();
    }
  }

  /** Calls this door. */
  async call(context: TestContext, options: Partial<LinkCall> = {}): Promise<LinkEnd> {
    const address = { host: '127.0.0.1', port: this.port };
    const call = {
      plane: this.plane,
      key: KEY,
      tls: null,
      networks: LOOPBACK,
      address,
      timeoutMs: 30_000,
      ...options,
    };
    const { wire, firstBytes } = await callRelay(call);
    context.after(() => wire.destroy());
    return new LinkEnd(wire, firstBytes);
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#changes.push(resolve);
    });
  }
}

/** Who connects and speaks for itself, byte by byte. */
export class Stranger {
  readonly socket: Socket;
  /** Resolves with all that it has heard, when the other end has closed. */
  readonly heard: Promise<string>;
  #text = '';
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    this.heard = new Promise((resolve) => {
      socket.on('data', (bytes) => {
        this.#text += bytes.toString('latin1');
        this.#wake();
      });
      // A reset is an end like any other.
      socket.on('error', () => undefined);
      socket.on('close', () => resolve(this.#text));
    });
  }

  /** Connects, from another loopback address where one is given; it is cut with the test. */
  static async connect(context: TestContext, port: number, from = '127.0.0.1'): Promise<Stranger> {
    const stranger = new Stranger(connect({ port, host: '127.0.0.1', noDelay: true, localAddress: from }));
    context.after(() => stranger.socket.destroy());
    await once(stranger.socket, 'connect');
    return stranger;
  }

  /** Resolves with what it has heard, once that has a whole line more than `lines`. */
  async line(lines = 0): Promise<string> {
    while (this.#text.split('\n').length <= lines + 1) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#text.split('\n')[lines] ?? '';
  }

  /** Resolves when the kernel has it. */
  say(bytes: Uint8Array | string): Promise<void> {
    return new Promise((resolve) => {
      this.socket.write(bytes, () => resolve());
    });
  }
}

export function portOf(address: AddressInfo | string | null): number {
  if (address === null || typeof address === 'string') throw new Error('a TCP server without a port');
  return address.port;
}

/** Something else that listens where a relay is expected. */
export async function impostor(context: TestContext, serve: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    serve(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return portOf(server.address());
}

/** Why a call fails. What it rejects with has to be a LinkError that names no address. */
export async function codeOf(call: LinkCall): Promise<LinkErrorCode> {
  try {
    await callRelay(call);
  } catch (error) {
    assert.ok(error instanceof LinkError);
    const shown = inspect([Object.entries(error), error.message, error.cause]);
    assert.ok(!shown.includes(call.address.host), shown);
    assert.ok(!shown.includes(`${call.address.port}`), shown);
    return error.code;
  }
  throw new Error('the call was answered');
}
