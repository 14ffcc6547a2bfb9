import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { inspect } from 'node:util';
import { linkAuthKey } from '../../../src/cluster/link-auth.ts';
import type { LinkTls } from '../../../src/cluster/link-auth.ts';
import { LinkError, PeerNetworks, connectLink } from '../../../src/cluster/link-client.ts';
import type { LinkClientOptions, LinkErrorCode } from '../../../src/cluster/link-client.ts';
import { LinkServer } from '../../../src/cluster/link-server.ts';
import type { LinkFailure } from '../../../src/cluster/link-server.ts';
import type { ByteStream, ByteStreamHandler } from '../../../src/transport/byte-stream.ts';
import { IoBackend } from '../../../src/transport/io-backend.ts';
import { randomBytesOf } from '../../support/bytes.ts';

export const SECRET = 'correct horse';

export const KEY = linkAuthKey(SECRET);

/** The relays of these tests are on the loopback. */
export const LOOPBACK = new PeerNetworks([], '127.0.0.1');

/** Both I/O backends. */
export const IO_BACKENDS: readonly (readonly [name: IoBackend['kind'], open: () => Promise<IoBackend>])[] = [
  ['shared buffer', () => IoBackend.open(64 * 2 ** 20)],
  ['standard streams', () => Promise.resolve(IoBackend.withStandardStreams())],
];

/** One end of an open link, and the bytes received there. */
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

  /** Resolves with all received bytes when there are `count` of them, or when the link is closed. */
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
    // The tests do not wait for it.
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

/** Sends in both directions, and ends one and then the other. Checks that all bytes arrive in order. */
export async function exerciseLink(caller: LinkEnd, owner: LinkEnd): Promise<void> {
  const [toOwner, toCaller] = [randomBytesOf(1, 3_000_000), randomBytesOf(2, 2_000_000)];
  const last = Buffer.from('after the FIN');
  caller.stream.write(toOwner);
  owner.stream.write(toCaller);
  assert.ok((await owner.until(toOwner.length)).equals(toOwner));
  assert.ok((await caller.until(toCaller.length)).equals(toCaller));
  caller.stream.end();
  await owner.ended();
  assert.equal(owner.isClosed, false);
  owner.stream.write(last);
  assert.ok((await caller.until(toCaller.length + last.length)).subarray(toCaller.length).equals(last));
  owner.stream.end();
  await Promise.all([owner.closed(), caller.closed()]);
}

/**
 * A link server that listens on loopback, with the links that it has accepted and the reasons of rejections.
 */
export class TestLinkServer {
  readonly backend: IoBackend;
  readonly server: LinkServer;
  readonly port: number;
  readonly #links: LinkEnd[];
  readonly #failures: LinkFailure[];
  readonly #changes: (() => void)[];

  private constructor(
    backend: IoBackend,
    linkServer: LinkServer,
    port: number,
    stats: { links: LinkEnd[]; failures: LinkFailure[]; changes: (() => void)[] },
  ) {
    this.backend = backend;
    this.server = linkServer;
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
    const linkServer = new LinkServer({
      backend,
      key: KEY,
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
    const netServer = linkServer.createServer().listen(0, '127.0.0.1');
    await once(netServer, 'listening');
    context.after(() => {
      netServer.close();
      linkServer.close();
      for (const link of stats.links) link.stream.abort();
    });
    return new TestLinkServer(backend, linkServer, portOf(netServer.address()), stats);
  }

  /** Why peers were rejected, in the order of the reports. */
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

  /** Resolves with the accepted link number `index`, from 0. */
  async untilLink(index = 0): Promise<LinkEnd> {
    for (;;) {
      const link = this.#links[index];
      if (link !== undefined) return link;
      await this.#changed();
    }
  }

  /** Connects to this server. */
  async connect(context: TestContext, options: Partial<LinkClientOptions> = {}): Promise<LinkEnd> {
    const address = { host: '127.0.0.1', port: this.port };
    const all = {
      backend: this.backend,
      key: KEY,
      tls: null,
      networks: LOOPBACK,
      address,
      timeoutMs: 30_000,
      ...options,
    };
    const { stream, firstBytes } = await connectLink(all);
    context.after(() => stream.abort());
    return new LinkEnd(stream, firstBytes);
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#changes.push(resolve);
    });
  }
}

/** A peer whose bytes are written by the test. */
export class RawPeer {
  readonly socket: Socket;
  /** Resolves with all received text when the connection is closed. */
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
      // A reset counts as a close.
      socket.on('error', () => undefined);
      socket.on('close', () => resolve(this.#text));
    });
  }

  /** Connects from a loopback address. The connection is closed with the test. */
  static async connect(context: TestContext, port: number, from = '127.0.0.1'): Promise<RawPeer> {
    const peer = new RawPeer(connect({ port, host: '127.0.0.1', noDelay: true, localAddress: from }));
    context.after(() => peer.socket.destroy());
    await once(peer.socket, 'connect');
    return peer;
  }

  /** Resolves with received line number `lines`, from 0, when it is complete. */
  async untilLine(lines = 0): Promise<string> {
    while (this.#text.split('\n').length <= lines + 1) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#text.split('\n')[lines] ?? '';
  }

  /** Resolves when the bytes are written to the socket. */
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

/** A server of another kind at the address of a relay. Resolves with its port. */
export async function serveImpostor(context: TestContext, serve: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const netServer = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    serve(socket);
  }).listen(0, '127.0.0.1');
  await once(netServer, 'listening');
  context.after(() => {
    netServer.close();
    for (const socket of sockets) socket.destroy();
  });
  return portOf(netServer.address());
}

/**
 * Resolves with the code of a failed connection attempt. Checks that the error is a LinkError without the
 * address.
 */
export async function connectErrorCode(options: LinkClientOptions): Promise<LinkErrorCode> {
  try {
    await connectLink(options);
  } catch (error) {
    assert.ok(error instanceof LinkError);
    const shown = inspect([Object.entries(error), error.message, error.cause]);
    assert.ok(!shown.includes(options.address.host), shown);
    assert.ok(!shown.includes(`${options.address.port}`), shown);
    return error.code;
  }
  throw new Error('the connection attempt succeeded');
}
