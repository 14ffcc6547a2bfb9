import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';
import type { Arrival } from './arrival.ts';
import type { TrustedProxies } from './trusted-proxies.ts';
import { WELCOME } from './welcome-page.ts';
import { WireStream } from './wire-stream.ts';
import type { Wire } from './wire.ts';

/**
 * What `ws` makes of a connection when it has answered the upgrade. It stays an empty shell: the wire is ours
 * from there on.
 */
class Upgraded extends WebSocket {
  /** Called by `ws` to begin reading. */
  setSocket(): void {
    // Nothing of it is wanted.
  }
}

export interface HttpDeskOptions {
  /** Null: nobody is believed to come for somebody else. */
  readonly proxies: TrustedProxies | null;
  /** A WebSocket client is ready. What has been read of it already is `firstBytes`. */
  readonly upgraded: (wire: Wire, arrival: Arrival, firstBytes: Uint8Array) => void;
  /** False: it has to be closed at once. */
  readonly comesFrom: (arrival: Arrival, address: string) => boolean;
  /** It is gone, and no WebSocket client has become of it. */
  readonly left: (arrival: Arrival) => void;
}

/** Talks HTTP with connections for as long as it takes to make WebSocket clients of them, or to tell a browser where it is. */
export class HttpDesk {
  readonly #options: HttpDeskOptions;
  readonly #server: Server;
  readonly #upgrader = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    handleProtocols: () => false,
    WebSocket: Upgraded,
  });

  constructor(options: HttpDeskOptions) {
    this.#options = options;
    // It listens nowhere. Connections are given to it, and whoever gives them looks after their time.
    this.#server = createServer(answer);
    this.#server.on('upgrade', (request, stream, head) => {
      // Newer Nodes put a stream of their own around a connection whose upgrade has a body. No client of ours sends one.
      if (!(stream instanceof WireStream)) {
        stream.destroy();
        return;
      }
      if (!this.#identify(request, stream)) {
        stream.shutdown();
        return;
      }
      this.#upgrader.handleUpgrade(request, stream, head, () => {
        const { wire, unread } = stream.release();
        options.upgraded(wire, stream.arrival, Buffer.concat([head, unread]));
      });
    });
  }

  /** Takes over a connection that begins with `firstBytes`. Any path will do. */
  serve(wire: Wire, arrival: Arrival, firstBytes: Uint8Array): void {
    const { left } = this.#options;
    this.#server.emit('connection', new WireStream(wire, arrival, firstBytes, left));
  }

  /** False: it has to be closed at once. */
  #identify(request: IncomingMessage, stream: WireStream): boolean {
    const { proxies, comesFrom } = this.#options;
    const peer = stream.remoteAddress;
    // Whoever is no proxy was looked at when it came.
    if (proxies === null || stream.arrival.slot !== null) return true;
    // What is gone already has no address either.
    if ((peer === null && !stream.isUnix) || !proxies.trusts(peer)) return true;
    const forwarded = request.headers['x-forwarded-for'];
    const client = proxies.clientOf(peer, Array.isArray(forwarded) ? forwarded.join(', ') : forwarded);
    return client === null || proxies.trusts(client) || comesFrom(stream.arrival, client);
  }
}

/** Whoever asks for a page gets one; everything else should have been an upgrade. */
function answer(request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  const wantsPage = request.headers.accept?.includes('text/html') === true;
  response.writeHead(wantsPage ? 200 : 426, {
    'content-type': wantsPage ? 'text/html; charset=utf-8' : 'text/plain; charset=utf-8',
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cache-control': 'no-store',
    connection: 'close',
    ...(wantsPage ? {} : { upgrade: 'websocket' }),
  });
  response.end(wantsPage ? WELCOME.html : WELCOME.text);
}
