import { createServer } from 'node:net';
import type { Server } from 'node:net';
import type { Endpoint } from './endpoint.ts';
import type { Peer } from './peer.ts';
import { SocketPeer } from './socket-peer.ts';

/** A server whose connections are clients as they come. */
export function createRawServer(kind: Endpoint['kind'], accept: (peer: Peer) => void): Server {
  return createServer({ allowHalfOpen: true }, (socket) => accept(new SocketPeer(socket, kind)));
}
