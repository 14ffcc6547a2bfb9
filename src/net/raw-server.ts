import { createServer } from 'node:net';
import type { Server } from 'node:net';
import type { DataPlane } from './data-plane.ts';
import type { Endpoint } from './endpoint.ts';
import type { Peer } from './peer.ts';
import { SocketPeer } from './socket-peer.ts';

/** A server whose connections are clients as they come. */
export function createRawServer(
  kind: Endpoint['kind'],
  plane: DataPlane,
  accept: (peer: Peer) => void,
): Server {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    accept(new SocketPeer(plane.wireOfSocket(socket, kind)));
  });
  server.on('listening', () => {
    plane.acceptWires(server, kind, (wire) => accept(new SocketPeer(wire)));
  });
  return server;
}
