import type { Server, Socket } from 'node:net';
import type { SecureContext, TLSSocket } from 'node:tls';
import type { ByteStream } from './byte-stream.ts';
import { NodeStream } from './node-stream.ts';
import { ReadScheduler } from './read-scheduler.ts';
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

/**
 * How connections move bytes: through one shared buffer if this Node.js version supports it, else by Node's
 * streams.
 */
export class IoBackend {
  readonly #uv: UvHandles | null;
  readonly scheduler: ReadScheduler;
  /** Undefined until TLS is first needed; null if the shared buffer does not support TLS. */
  #tls: SharedTlsState | null | undefined;

  private constructor(uv: UvHandles | null, bufferMemoryBytes: number) {
    this.#uv = uv;
    this.scheduler = new ReadScheduler(bufferMemoryBytes);
  }

  /**
   * Detects what this Node.js version supports.
   *
   * @param bufferMemoryBytes bytes that may be buffered for slow receivers, in addition to 16 KiB for each
   */
  static async open(bufferMemoryBytes: number): Promise<IoBackend> {
    return new IoBackend(await detectUvHandles(), bufferMemoryBytes);
  }

  /** Works with every Node.js version. */
  static withStandardStreams(): IoBackend {
    return new IoBackend(null, 0);
  }

  get kind(): 'shared buffer' | 'standard streams' {
    return this.#uv === null ? 'standard streams' : 'shared buffer';
  }

  /**
   * Accepts the connections of a listening server without creating sockets. If it can't, 'connection' is
   * emitted.
   */
  acceptStreams(server: Server, kind: ByteStream['kind'], accept: (stream: ByteStream) => void): void {
    const uv = this.#uv;
    if (uv === null) return;
    acceptHandles(server, (handle) => {
      this.scheduler.onAccept();
      accept(new UvStream(handle, kind, uv, this.scheduler));
    });
  }

  /** Takes over a socket, which must not be used afterwards. It must allow half-open connections. */
  adoptSocket(socket: Socket, kind: ByteStream['kind']): ByteStream {
    const uv = this.#uv;
    const handle = uv === null ? null : detachHandle(socket);
    if (uv === null || handle === null) return new NodeStream(socket, kind);
    setClientSocketOptions(handle);
    return new UvStream(handle, kind, uv, this.scheduler);
  }

  /**
   * Starts TLS on a stream, which must not be used afterwards.
   *
   * @param firstBytes bytes that were already read from the stream
   * @param address address of the client; null if unknown
   * @param applicationProtocol the only one that is accepted (RFC 7301). Undefined: they are ignored
   */
  startTls(
    stream: ByteStream,
    firstBytes: Uint8Array,
    address: string | null,
    context: SecureContext,
    applicationProtocol?: string,
  ): ByteStream {
    const protocol = applicationProtocol === undefined ? {} : { applicationProtocol };
    const options = {
      role: 'server',
      context,
      preSharedKey: null,
      firstBytes,
      address,
      ...protocol,
    } as const;
    const shared = this.startSharedTls(stream, options);
    if (shared !== null) return shared;
    const bytes = Uint8Array.from(firstBytes);
    return this.startTlsWith(stream, (socket) => {
      socket.unshift(bytes);
      const protocols = applicationProtocol === undefined ? {} : { ALPNProtocols: [applicationProtocol] };
      return startNodeTls(socket, { secureContext: context, ...protocols });
    });
  }

  /** Whether TLS connections use the shared buffer too. The first call takes about 8 ms to detect it. */
  get hasSharedBufferTls(): boolean {
    return this.#sharedTls() !== null;
  }

  #sharedTls(): SharedTlsState | null {
    if (this.#tls === undefined) {
      const bindings = this.#uv === null ? null : detectTlsBindings(this.#uv);
      this.#tls = bindings === null ? null : new SharedTlsState(bindings, this.scheduler);
    }
    return this.#tls;
  }

  /**
   * Starts TLS on a stream, which must not be used afterwards. Null, and the stream can still be used, if the
   * shared buffer does not support TLS.
   */
  startSharedTls(stream: ByteStream, options: TlsStreamOptions): ByteStream | null {
    const tls = stream instanceof UvStream ? this.#sharedTls() : null;
    return tls === null ? null : new TlsStream(stream, tls, options);
  }

  /** Starts TLS with a function of the caller. The stream must not be used afterwards. */
  startTlsWith(stream: ByteStream, secure: (socket: Socket) => TLSSocket): ByteStream {
    const socket = stream.detach();
    return new NodeStream(secure(socket), stream.kind, socket);
  }
}
