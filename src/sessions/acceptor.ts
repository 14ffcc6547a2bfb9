import { createServer } from 'node:net';
import type { Server } from 'node:net';
import type { SecureContext } from 'node:tls';
import type { TrustedProxies } from '../config/trusted-proxies.ts';
import type { ByteStream } from '../transport/byte-stream.ts';
import type { IoBackend } from '../transport/io-backend.ts';
import { LinkTransport } from '../transport/link-transport.ts';
import { RawTransport } from '../transport/raw-transport.ts';
import { WebSocketTransport } from '../transport/websocket-transport.ts';
import type { WebSocketTransportOptions } from '../transport/websocket-transport.ts';
import type { AcceptedConnection, AddressSource, AdmissionControl } from './admission-control.ts';
import { HttpUpgrader } from './http-upgrader.ts';
import { ProtocolDetector, rejectImmediately } from './protocol-detector.ts';
import type { ProtocolHandlers } from './protocol-detector.ts';
import type { SessionManager } from './session-manager.ts';

export interface AcceptorServerOptions {
  readonly kind: ByteStream['kind'];
  readonly backend: IoBackend;
  readonly handlers: ProtocolHandlers;
  /** Takes in a connection; null when there is no place for it. */
  readonly accept: (source: AddressSource) => AcceptedConnection | null;
}

/** A server through which clients of every kind come in. */
export function createAcceptorServer({
  kind,
  backend,
  handlers,
  accept: arrive,
}: AcceptorServerOptions): Server {
  function enter(stream: ByteStream): void {
    const accepted = arrive(new StreamAddressSource(stream, handlers.proxies));
    if (accepted !== null) new ProtocolDetector(stream, accepted, handlers).start();
    else rejectImmediately(stream, handlers.raw !== null);
  }

  const server = createServer({ allowHalfOpen: true }, (socket) => enter(backend.adoptSocket(socket, kind)));
  server.on('listening', () => backend.acceptStreams(server, kind, enter));
  return server;
}

/** The address of a wire's other end, unless that is a proxy whose clients have addresses of their own. */
class StreamAddressSource implements AddressSource {
  readonly #stream: ByteStream;
  readonly #proxies: ProtocolHandlers['proxies'];

  constructor(stream: ByteStream, proxies: ProtocolHandlers['proxies']) {
    this.#stream = stream;
    this.#proxies = proxies;
  }

  get address(): string | null {
    const address = this.#stream.addresses?.remote ?? null;
    return address === null || this.#proxies?.trusts(address) === true ? null : address;
  }
}

export interface AcceptorOptions extends Pick<WebSocketTransportOptions, 'pingIntervalMs'> {
  readonly backend: IoBackend;
  readonly admission: AdmissionControl;
  readonly sessions: SessionManager;
  /** Null: nobody is believed to come for somebody else. */
  readonly proxies: TrustedProxies | null;
}

/** Who comes in by a listener. */
export interface ListenerOptions {
  /** `raw` takes in clients of every kind, `websocket` those that speak HTTP. */
  readonly role: 'raw' | 'websocket';
  readonly kind: ByteStream['kind'];
  /** The certificate at any time; null: no TLS. */
  readonly certificate: { readonly context: SecureContext } | null;
}

/** Makes servers whose connections become clients of the hub, whatever they speak. */
export class Acceptor {
  readonly #options: AcceptorOptions;
  readonly #httpUpgrader: HttpUpgrader;

  constructor(options: AcceptorOptions) {
    const { sessions, admission, proxies, pingIntervalMs, backend } = options;
    this.#options = options;
    const { deferredWork } = backend;
    this.#httpUpgrader = new HttpUpgrader({
      proxies,
      onClientAddress: (accepted, address) => admission.setClientAddress(accepted, address),
      isDraining: () => admission.isDraining,
      release: (accepted) => admission.release(accepted),
      onUpgrade: (stream, accepted, firstBytes) => {
        const transport = new WebSocketTransport(stream, { pingIntervalMs, deferredWork });
        sessions.accept(transport, accepted);
        if (firstBytes.length > 0) transport.onBytes(firstBytes);
      },
    });
  }

  /** Takes in a client that another relay passes on. */
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

  /** A server that does not listen yet. */
  createServer({ role, kind, certificate }: ListenerOptions): Server {
    const { backend, sessions, admission, proxies } = this.#options;
    const handlers: ProtocolHandlers = {
      proxies,
      raw:
        role === 'websocket'
          ? null
          : (stream, accepted) => {
              const transport = new RawTransport(stream);
              sessions.accept(transport, accepted);
              return transport;
            },
      http: (stream, accepted, firstBytes) => this.#httpUpgrader.serve(stream, accepted, firstBytes),
      tls:
        certificate === null
          ? null
          : {
              wrap: (stream, bytes, address) => backend.startTls(stream, bytes, address, certificate.context),
            },
      onClientAddress:
        admission.needsClientAddress || proxies !== null
          ? (accepted, address) => admission.setClientAddress(accepted, address)
          : null,
      release: (accepted) => admission.release(accepted),
    };
    return createAcceptorServer({
      kind,
      backend,
      handlers,
      accept: (source) => admission.accept(source),
    });
  }
}
