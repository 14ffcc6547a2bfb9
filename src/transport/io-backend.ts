import type { Server, Socket } from 'node:net';
import type { SecureContext, TLSSocket } from 'node:tls';
import { EMPTY_BYTES } from './byte-stream.ts';
import type { ByteStream } from './byte-stream.ts';
import { NodeStream } from './node-stream.ts';
import { ReadScheduler } from './read-scheduler.ts';
import type { DeferredWork } from './read-scheduler.ts';
import { detectTlsBindings } from './tls-engine.ts';
import { SharedTlsState, TlsStream } from './tls-stream.ts';
import type { TlsStreamOptions } from './tls-stream.ts';
import {
  acceptHandles,
  detachHandle,
  detectUvHandles,
  setClientSocketOptions,
  startNodeTls,
} from './uv-handle.ts';
import type { UvHandles } from './uv-handle.ts';
import { UvStream } from './uv-stream.ts';

/** How connections move their bytes: through one shared buffer where this Node allows it, else by its streams. */
export class IoBackend {
  readonly #uv: UvHandles | null;
  readonly #scheduler: ReadScheduler;
  /** Undefined until TLS is needed. */
  #tls: SharedTlsState | null | undefined;

  private constructor(handles: UvHandles | null, bufferMemoryBytes: number) {
    this.#uv = handles;
    this.#scheduler = new ReadScheduler(bufferMemoryBytes);
  }

  /**
   * Finds out what this Node can do.
   *
   * @param bufferMemoryBytes what may be held for receivers that do not keep up, above 16 KiB for each
   */
  static async open(bufferMemoryBytes: number): Promise<IoBackend> {
    return new IoBackend(await detectUvHandles(), bufferMemoryBytes);
  }

  /** The one that works everywhere. */
  static withStandardStreams(): IoBackend {
    return new IoBackend(null, 0);
  }

  get kind(): 'shared buffer' | 'standard streams' {
    return this.#uv === null ? 'standard streams' : 'shared buffer';
  }

  /** Bytes held for receivers that do not keep up, as far as the shared buffer knows. */
  get bufferedBytes(): number {
    return this.#scheduler.bufferedBytes;
  }

  /** Where work on connections queues that takes too long for the moment they are read. */
  get deferredWork(): DeferredWork {
    return this.#scheduler;
  }

  /** Takes a listening server's connections before sockets are made of them. Where it can't, 'connection' is emitted. */
  acceptStreams(server: Server, kind: ByteStream['kind'], accept: (stream: ByteStream) => void): void {
    const handles = this.#uv;
    if (handles === null) return;
    acceptHandles(server, (handle) => {
      this.#scheduler.onAccept();
      accept(new UvStream(handle, kind, handles, this.#scheduler));
    });
  }

  /** Takes over a socket, which is not to be used any more. It must allow half-open connections. */
  adoptSocket(socket: Socket, kind: ByteStream['kind']): ByteStream {
    const handles = this.#uv;
    const handle = handles === null ? null : detachHandle(socket);
    if (handles === null || handle === null) return new NodeStream(socket, kind);
    setClientSocketOptions(handle);
    return new UvStream(handle, kind, handles, this.#scheduler);
  }

  /**
   * Puts TLS on a wire, which is not to be used any more.
   *
   * @param firstBytes what it brought already
   * @param address where the client is; null where that is not known
   */
  startTls(
    stream: ByteStream,
    firstBytes: Uint8Array,
    address: string | null,
    context: SecureContext,
  ): ByteStream {
    const tls = stream instanceof UvStream ? this.#sharedTls() : null;
    if (tls !== null) {
      return new TlsStream(stream, tls, { role: 'server', context, preSharedKey: null, firstBytes, address });
    }
    const bytes = Uint8Array.from(firstBytes);
    return this.startTlsWith(stream, (socket) => {
      socket.unshift(bytes);
      return startNodeTls(socket, { secureContext: context });
    });
  }

  /** Whether TLS connections use the shared buffer too. Finds out at the first call, in about 8 ms. */
  get hasSharedBufferTls(): boolean {
    return this.#sharedTls() !== null;
  }

  #sharedTls(): SharedTlsState | null {
    if (this.#tls === undefined) {
      const bindings = this.#uv === null ? null : detectTlsBindings(this.#uv);
      this.#tls = bindings === null ? null : new SharedTlsState(bindings, this.#scheduler);
    }
    return this.#tls;
  }

  /** Puts TLS with a pre-shared key on a wire, which is not to be used any more. Null where the shared buffer can't do that. */
  startLinkTls(
    stream: ByteStream,
    options: Omit<TlsStreamOptions, 'firstBytes' | 'address'>,
  ): ByteStream | null {
    const tls = stream instanceof UvStream ? this.#sharedTls() : null;
    return tls === null ? null : new TlsStream(stream, tls, { ...options, firstBytes: EMPTY_BYTES });
  }

  /** Puts TLS on a wire in a way of one's own. The wire is not to be used any more. */
  startTlsWith(stream: ByteStream, secure: (socket: Socket) => TLSSocket): ByteStream {
    const socket = stream.detach();
    return new NodeStream(secure(socket), stream.kind, socket);
  }
}
