import { createServer } from 'node:net';
import type { Server } from 'node:net';
import type { SecureContext } from 'node:tls';
import type { ByteStream } from '../transport/byte-stream.ts';
import type { IoBackend } from '../transport/io-backend.ts';
import { LinkTransport } from '../transport/link-transport.ts';
import type { AdmissionControl } from './admission-control.ts';
import { HttpUpgrader } from './http-upgrader.ts';
import { ProtocolDetector, rejectImmediately } from './protocol-detector.ts';
import type { SessionManager } from './session-manager.ts';

export interface AcceptorOptions {
  readonly backend: IoBackend;
  readonly admission: AdmissionControl;
  readonly sessions: SessionManager;
  /** Time between pings to WebSocket clients, in milliseconds. */
  readonly pingIntervalMs: number;
}

export interface ListenerOptions {
  /** `raw` accepts clients of every kind, `websocket` only those that speak HTTP. */
  readonly role: 'raw' | 'websocket';
  readonly kind: ByteStream['kind'];
  /** The current certificate; null: no TLS. */
  readonly certificate: { readonly context: SecureContext } | null;
}

/** Creates the servers for clients, and accepts connections from them and from cluster links. */
export class Acceptor {
  readonly #options: AcceptorOptions;
  readonly #httpUpgrader: HttpUpgrader;

  constructor(options: AcceptorOptions) {
    this.#options = options;
    this.#httpUpgrader = new HttpUpgrader(options);
  }

  /** Accepts a client that another relay forwards. */
  acceptLink(stream: ByteStream, firstBytes: Uint8Array): void {
    const { sessions, admission } = this.#options;
    const accepted = admission.accept(null);
    if (accepted === null) {
      rejectImmediately(stream, true);
      return;
    }
    const transport = new LinkTransport(stream);
    sessions.accept(transport, accepted);
    if (firstBytes.length > 0) transport.onBytes(firstBytes);
  }

  /** Creates a server that does not listen yet. */
  createServer(listener: ListenerOptions): Server {
    const { backend, admission } = this.#options;
    const { role, kind } = listener;
    const options = { ...this.#options, ...listener, httpUpgrader: this.#httpUpgrader };
    const accept = (stream: ByteStream): void => {
      const accepted = admission.accept(stream);
      if (accepted !== null) new ProtocolDetector(stream, accepted, options).start();
      else rejectImmediately(stream, role === 'raw');
    };
    const server = createServer({ allowHalfOpen: true }, (socket) =>
      accept(backend.adoptSocket(socket, kind)),
    );
    server.on('listening', () => backend.acceptStreams(server, kind, accept));
    return server;
  }
}
