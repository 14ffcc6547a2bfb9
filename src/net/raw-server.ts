import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { DirectWire } from './direct-wire.ts';
import type { Endpoint } from './endpoint.ts';
import { acceptHandles } from './handle.ts';
import type { Peer } from './peer.ts';
import type { ReadPool } from './read-pool.ts';
import { SocketPeer } from './socket-peer.ts';
import { StreamWire } from './stream-wire.ts';

/**
 * A server whose connections are clients as they come.
 *
 * @param pool what they read from; null for ordinary streams
 */
export function createRawServer(
  kind: Endpoint['kind'],
  pool: ReadPool | null,
  accept: (peer: Peer) => void,
): Server {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    accept(new SocketPeer(new StreamWire(socket, kind)));
  });
  if (pool !== null) {
    server.on('listening', () => {
      acceptHandles(server, (handle) => accept(new SocketPeer(new DirectWire(handle, kind, pool))));
    });
  }
  return server;
}
