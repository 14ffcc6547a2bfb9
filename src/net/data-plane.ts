import type { Server, Socket } from 'node:net';
import type { SecureContext, TLSSocket } from 'node:tls';
import { DirectWire } from './direct-wire.ts';
import { acceptHandles, openHandles, secureSocketOf, setClientOptions, takeHandle } from './handle.ts';
import type { Handles } from './handle.ts';
import { ReadPool } from './read-pool.ts';
import { StreamWire } from './stream-wire.ts';
import { openTls } from './tls-handle.ts';
import { TlsContext, TlsStream } from './tls-stream.ts';
import type { TlsStreamOptions } from './tls-stream.ts';
import { NOTHING } from './wire.ts';
import type { Wire } from './wire.ts';

/** How connections move their bytes: through one shared buffer where this Node allows it, else by its streams. */
export class DataPlane {
  readonly #handles: Handles | null;
  readonly #pool: ReadPool;
  /** Undefined until TLS is needed. */
  #tls: TlsContext | null | undefined;

  private constructor(handles: Handles | null, bufferMemoryBytes: number) {
    this.#handles = handles;
    this.#pool = new ReadPool(bufferMemoryBytes);
  }

  /**
   * Finds out what this Node can do.
   *
   * @param bufferMemoryBytes what may be held for receivers that do not keep up, above 16 KiB for each
   */
  static async open(bufferMemoryBytes: number): Promise<DataPlane> {
    return new DataPlane(await openHandles(), bufferMemoryBytes);
  }

  /** The one that works everywhere. */
  static ofOrdinaryStreams(): DataPlane {
    return new DataPlane(null, 0);
  }

  get kind(): 'shared buffer' | 'ordinary streams' {
    return this.#handles === null ? 'ordinary streams' : 'shared buffer';
  }

  /** Bytes held for receivers that do not keep up, as far as the shared buffer knows. */
  get heldBytes(): number {
    return this.#pool.heldBytes;
  }

  /** Where work on connections queues that takes too long for the moment they are read. */
  get backlog(): Pick<ReadPool, 'isBusy' | 'defer' | 'hold'> {
    return this.#pool;
  }

  /** Takes a listening server's connections before sockets are made of them. Where it can't, 'connection' is emitted. */
  acceptWires(server: Server, kind: Wire['kind'], accept: (wire: Wire) => void): void {
    const handles = this.#handles;
    if (handles === null) return;
    acceptHandles(server, (handle) => {
      this.#pool.newcomer();
      accept(new DirectWire(handle, kind, handles, this.#pool));
    });
  }

  /** Takes over a socket, which is not to be used any more. It must allow half-open connections. */
  wireOfSocket(socket: Socket, kind: Wire['kind']): Wire {
    const handles = this.#handles;
    const handle = handles === null ? null : takeHandle(socket);
    if (handles === null || handle === null) return new StreamWire(socket, kind);
    setClientOptions(handle);
    return new DirectWire(handle, kind, handles, this.#pool);
  }

  /**
   * Puts TLS on a wire, which is not to be used any more.
   *
   * @param firstBytes what it brought already
   * @param address where the client is; null where that is not known
   */
  secure(wire: Wire, firstBytes: Uint8Array, address: string | null, context: SecureContext): Wire {
    const tls = wire instanceof DirectWire ? this.#tlsContext() : null;
    if (tls !== null) {
      return new TlsStream(wire, tls, { role: 'server', context, preSharedKey: null, firstBytes, address });
    }
    const bytes = Uint8Array.from(firstBytes);
    return this.secureWith(wire, (socket) => {
      socket.unshift(bytes);
      return secureSocketOf(socket, { secureContext: context });
    });
  }

  /** Whether TLS connections use the shared buffer too. Finds out at the first call, in about 8 ms. */
  get hasSharedTls(): boolean {
    return this.#tlsContext() !== null;
  }

  #tlsContext(): TlsContext | null {
    if (this.#tls === undefined) {
      const bindings = this.#handles === null ? null : openTls(this.#handles);
      this.#tls = bindings === null ? null : new TlsContext(bindings, this.#pool);
    }
    return this.#tls;
  }

  /** Puts TLS with a pre-shared key on a wire, which is not to be used any more. Null where the shared buffer can't do that. */
  secureLink(wire: Wire, options: Omit<TlsStreamOptions, 'firstBytes' | 'address'>): Wire | null {
    const tls = wire instanceof DirectWire ? this.#tlsContext() : null;
    return tls === null ? null : new TlsStream(wire, tls, { ...options, firstBytes: NOTHING });
  }

  /** Puts TLS on a wire in a way of one's own. The wire is not to be used any more. */
  secureWith(wire: Wire, secure: (socket: Socket) => TLSSocket): Wire {
    const socket = wire.detach();
    return new StreamWire(secure(socket), wire.kind, socket);
  }
}
