import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { Socket } from 'node:net';
import { WebSocket, WebSocketServer } from 'ws';
import type { DataPlane } from './data-plane.ts';
import type { Endpoint } from './endpoint.ts';
import type { Peer } from './peer.ts';
import { WebSocketPeer } from './websocket-peer.ts';
import type { WebSocketPeerOptions } from './websocket-peer.ts';

export interface WebSocketServerOptions extends WebSocketPeerOptions {
  /** Time for the whole upgrade request, in milliseconds; null: as long as it takes. */
  readonly upgradeTimeoutMs: number | null;
}

const HINT = 'This is a Magic-Wormhole transit relay for WebSocket clients.\n';

/**
 * What `ws` makes of a connection when it has answered the upgrade. It stays an empty shell: the socket is ours
 * from there on.
 */
class Upgraded extends WebSocket {
  /** Called by `ws` to begin reading. */
  setSocket(): void {
    // Nothing of it is wanted.
  }
}

/** A server whose connections become clients once they have been upgraded. Any path will do. */
export function createWebSocketServer(
  kind: Endpoint['kind'],
  plane: DataPlane,
  options: WebSocketServerOptions,
  accept: (peer: Peer) => void,
): Server {
  const upgrader = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    handleProtocols: () => false,
    WebSocket: Upgraded,
  });
  const server = createServer(
    {
      // Node takes 0 for no limit.
      headersTimeout: options.upgradeTimeoutMs ?? 0,
      requestTimeout: options.upgradeTimeoutMs ?? 0,
      connectionsCheckingInterval: 1000,
      noDelay: true,
    },
    (request, response) => {
      request.resume();
      response.writeHead(426, { 'content-type': 'text/plain', connection: 'close', upgrade: 'websocket' });
      response.end(HINT);
    },
  );
  server.on('upgrade', (request, stream, head) => {
    if (!(stream instanceof Socket)) throw new TypeError('an HTTP server without sockets');
    upgrader.handleUpgrade(request, stream, head, () => {
      const peer = new WebSocketPeer(plane.wireOfSocket(stream, kind), options);
      accept(peer);
      if (head.length > 0) peer.onBytes(Uint8Array.from(head));
    });
  });
  return server;
}
