import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { inspect } from 'node:util';
import { linkAuthKey } from '../../src/cluster/link-auth.ts';
import type { LinkTls } from '../../src/cluster/link-auth.ts';
import { LinkError, PeerNetworks, connectLink } from '../../src/cluster/link-client.ts';
import type { LinkClientOptions, LinkErrorCode } from '../../src/cluster/link-client.ts';
import { LinkServer } from '../../src/cluster/link-server.ts';
import type { LinkFailure } from '../../src/cluster/link-server.ts';
import type { ByteStream, ByteStreamHandler } from '../../src/transport/byte-stream.ts';
import { IoBackend } from '../../src/transport/io-backend.ts';
import { randomBytesOf } from '../support/bytes.ts';

export const SECRET = 'correct horse';

export const KEY = linkAuthKey(SECRET);

/** The relays of a test are on the loopback. */
export const LOOPBACK = new PeerNetworks([], '127.0.0.1');

/** Both ways of moving bytes; a link works over each. */
export const IO_BACKENDS: readonly (readonly [name: IoBackend['kind'], open: () => Promise<IoBackend>])[] = [
  ['shared buffer', () => IoBackend.open(64 * 2 ** 20)],
  ['standard streams', () => Promise.resolve(IoBackend.withStandardStreams())],
];

/** One end of an open link, and what came there. */
export class LinkEnd implements ByteStreamHandler {
  readonly stream: ByteStream;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  isEnded = false;
  isClosed = false;
  #wake: () => void = () => undefined;

  constructor(stream: ByteStream, firstBytes: Uint8Array) {
    this.stream = stream;
    this.onBytes(firstBytes);
    stream.start(this);
    stream.resume();
  }

  get received(): Buffer {
    const joined = Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }

  /** Resolves with everything received once that is `count` bytes, or once the link is gone. */
  async until(count: number): Promise<Buffer> {
    while (this.#bytes < count && !this.isClosed) await this.#changed();
    return this.received;
  }

  async ended(): Promise<void> {
    while (!this.isEnded && !this.isClosed) await this.#changed();
  }

  async closed(): Promise<void> {
    while (!this.isClosed) await this.#changed();
  }

  onBytes(bytes: Uint8Array): void {
    this.#chunks.push(Uint8Array.from(bytes));
    this.#bytes += bytes.length;
    this.#wake();
  }

  onWritable(): void {
    // Nothing here waits for it.
  }

  onEnd(): void {
    this.isEnded = true;
    this.#wake();
  }

  onClose(): void {
    this.isClosed = true;
    this.#wake();
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** Sends both ways, ends one way and then the other: everything comes, in order. */
export async function exerciseLink(caller: LinkEnd, owner: LinkEnd): Promise<void> {
  const [there, back] = [randomBytesOf(1, 3_000_000), randomBytesOf(2, 2_000_000)];
  const last = Buffer.from('after the FIN');
  caller.stream.write(there);
  owner.stream.write(back);
  assert.ok((await owner.until(there.length)).equals(there));
  assert.ok((await caller.until(back.length)).equals(back));
  caller.stream.end();
  await owner.ended();
  assert.equal(owner.isClosed, false);
  owner.stream.write(last);
  assert.ok((await caller.until(back.length + last.length)).subarray(back.length).equals(last));
  owner.stream.end();
  await Promise.all([owner.closed(), caller.closed()]);
}

/** A relay's door for links that listens on loopback, and whoever came through it or didn't. */
export class TestLinkServer {
  readonly backend: IoBackend;
  readonly server: LinkServer;
  readonly port: number;
  readonly #links: LinkEnd[];
  readonly #failures: LinkFailure[];
  readonly #changes: (() => void)[];

  private constructor(
    backend: IoBackend,
    door: LinkServer,
    port: number,
    stats: { links: LinkEnd[]; failures: LinkFailure[]; changes: (() => void)[] },
  ) {
    this.backend = backend;
    this.server = door;
    this.port = port;
    this.#links = stats.links;
    this.#failures = stats.failures;
    this.#changes = stats.changes;
  }

  static async open(
    context: TestContext,
    backend: IoBackend,
    tls: LinkTls | null = null,
    networks = LOOPBACK,
  ): Promise<TestLinkServer> {
    const stats = {
      links: Array<LinkEnd>(),
      failures: Array<LinkFailure>(),
      changes: Array<() => void>(),
    };
    const changed = (): void => {
      for (const wake of stats.changes.splice(0)) wake();
    };
    const door = new LinkServer({
      backend,
      secret: SECRET,
      tls,
      networks,
      onLink: (stream, firstBytes) => {
        stats.links.push(new LinkEnd(stream, firstBytes));
        changed();
      },
      onRejected: (failure) => {
        stats.failures.push(failure);
        changed();
      },
    });
    const server = door.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    context.after(() => {
      server.close();
      door.close();
      for (const link of stats.links) link.stream.abort();
    });
    return new TestLinkServer(backend, door, portOf(server.address()), stats);
  }

  /** Why strangers have not become links, in the order in which that was told. */
  get failures(): readonly LinkFailure[] {
    return this.#failures;
  }

  get links(): readonly LinkEnd[] {
    return this.#links;
  }

  /** Resolves with the first `count` failures. */
  async untilFailures(count: number): Promise<readonly LinkFailure[]> {
    while (this.#failures.length < count) await this.#changed();
    return this.#failures;
  }

  /** Resolves with the link that came as the `index`th. */
  async untilLink(index = 0): Promise<LinkEnd> {
    for (;;) {
      const link = this.#links[index];
      if (link !== undefined) return link;
      await this.#changed();
    }
  }

  /** Calls this door. */
  async connect(context: TestContext, options: Partial<LinkClientOptions> = {}): Promise<LinkEnd> {
    const address = { host: '127.0.0.1', port: this.port };
    const call = {
      backend: this.backend,
      key: KEY,
      tls: null,
      networks: LOOPBACK,
      address,
      timeoutMs: 30_000,
      ...options,
    };
    const { stream, firstBytes } = await connectLink(call);
    context.after(() => stream.abort());
    return new LinkEnd(stream, firstBytes);
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#changes.push(resolve);
    });
  }
}

/** Who connects and speaks for itself, byte by byte. */
export class RawPeer {
  readonly socket: Socket;
  /** Resolves with all that it has heard, when the other end has closed. */
  readonly received: Promise<string>;
  #text = '';
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    this.received = new Promise((resolve) => {
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
  static async connect(context: TestContext, port: number, from = '127.0.0.1'): Promise<RawPeer> {
    const stranger = new RawPeer(connect({ port, host: '127.0.0.1', noDelay: true, localAddress: from }));
    context.after(() => stranger.socket.destroy());
    await once(stranger.socket, 'connect');
    return stranger;
  }

  /** Resolves with what it has heard, once that has a whole line more than `lines`. */
  async untilLine(lines = 0): Promise<string> {
    while (this.#text.split('\n').length <= lines + 1) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#text.split('\n')[lines] ?? '';
  }

  /** Resolves when the kernel has it. */
  send(bytes: Uint8Array | string): Promise<void> {
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
export async function serveImpostor(context: TestContext, serve: (socket: Socket) => void): Promise<number> {
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
export async function connectErrorCode(call: LinkClientOptions): Promise<LinkErrorCode> {
  try {
    await connectLink(call);
  } catch (error) {
    assert.ok(error instanceof LinkError);
    const shown = inspect([Object.entries(error), error.message, error.cause]);
    assert.ok(!shown.includes(call.address.host), shown);
    assert.ok(!shown.includes(`${call.address.port}`), shown);
    return error.code;
  }
  throw new Error('the call was answered');
}
