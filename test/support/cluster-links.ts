import { connect, createServer } from 'node:net';
import type { Server } from 'node:net';
import { LinkTls, linkAuthKey } from '../../src/cluster/link-auth.ts';
import { PeerNetworks, connectLink } from '../../src/cluster/link-client.ts';
import type { Link } from '../../src/cluster/link-client.ts';
import { LinkServer } from '../../src/cluster/link-server.ts';
import type { ByteStream } from '../../src/transport/byte-stream.ts';
import type { IoBackend } from '../../src/transport/io-backend.ts';

const SECRET = 'the secret of all relays in these tests';

const LOOPBACK = new PeerNetworks([], '127.0.0.1');

const NO_BYTES = new Uint8Array(0);

/** How relays of a cluster in one process connect to each other. */
export interface LinkFactory {
  /** A server that does not listen yet. Calls `onLink` for each link and `onRejected` for each rejected connection. */
  createServer(
    backend: IoBackend,
    onLink: (stream: ByteStream, firstBytes: Uint8Array) => void,
    onRejected: (failure: string) => void,
  ): Server;
  connect(backend: IoBackend, host: string, port: number): Promise<Link>;
}

/**
 * Plain connections without authentication, so that there are no pending connections and their limit, and a
 * test can be one end of a link.
 */
export const UNAUTHENTICATED_LINKS: LinkFactory = {
  createServer: (backend, onLink) =>
    createServer({ allowHalfOpen: true }, (socket) => onLink(backend.adoptSocket(socket, 'tcp'), NO_BYTES)),
  connect: (backend, host, port) =>
    new Promise((resolve, reject) => {
      const socket = connect({ host, port, allowHalfOpen: true });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve({ stream: backend.adoptSocket(socket, 'tcp'), firstBytes: NO_BYTES });
      });
    }),
};

/** Links as in production: both ends prove that they have the secret. */
export function authenticatedLinks(isEncrypted: boolean): LinkFactory {
  const tls = isEncrypted ? new LinkTls(SECRET) : null;
  const key = linkAuthKey(SECRET);
  return {
    createServer: (backend, onLink, onRejected) =>
      new LinkServer({
        backend,
        key,
        tls,
        networks: LOOPBACK,
        onLink,
        onRejected,
      }).createServer(),
    connect: (backend, host, port) =>
      connectLink({
        backend,
        key,
        tls,
        networks: LOOPBACK,
        address: { host, port },
        timeoutMs: 10_000,
      }),
  };
}
