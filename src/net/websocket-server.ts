import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { Socket } from 'node:net';
import { WebSocketServer } from 'ws';
import type { ServerOptions } from 'ws';
import type { Peer } from './peer.ts';
import { WebSocketPeer } from './websocket-peer.ts';
import type { WebSocketPeerOptions } from './websocket-peer.ts';

/** The longest message taken from a client, in bytes: 64 of the records that clients send. */
export const MAX_RECEIVED_MESSAGE_BYTES = 1_048_576;

/** Time for the whole upgrade request, in milliseconds. */
const UPGRADE_TIMEOUT_MS = 30_000;

/** `ws` gives up a close handshake after this time; ours lasts as long as the client takes bytes. */
const WS_CLOSE_TIMEOUT_MS = 86_400_000;

const HINT = 'This is a Magic-Wormhole transit relay for WebSocket clients.\n';

/** A server whose connections become clients once they have been upgraded. Any path will do. */
export function createWebSocketServer(options: WebSocketPeerOptions, accept: (peer: Peer) => void): Server {
  // The type declarations lag behind ws, which has had closeTimeout since 8.19.
  const upgraderOptions: ServerOptions & { closeTimeout: number } = {
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_RECEIVED_MESSAGE_BYTES,
    skipUTF8Validation: true,
    closeTimeout: WS_CLOSE_TIMEOUT_MS,
    handleProtocols: () => false,
  };
  const upgrader = new WebSocketServer(upgraderOptions);
  const server = createServer(
    {
      headersTimeout: UPGRADE_TIMEOUT_MS,
      requestTimeout: UPGRADE_TIMEOUT_MS,
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
    upgrader.handleUpgrade(request, stream, head, (ws) => accept(new WebSocketPeer(ws, stream, options)));
  });
  return server;
}
