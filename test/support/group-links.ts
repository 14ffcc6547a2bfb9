import { connect, createServer } from 'node:net';
import type { Server } from 'node:net';
import { greetingKey } from '../../src/cluster/greeting.ts';
import { callRelay } from '../../src/cluster/link-call.ts';
import { LinkDoor } from '../../src/cluster/link-door.ts';
import { LinkTls } from '../../src/cluster/link-tls.ts';
import { PeerNetworks } from '../../src/cluster/peer-networks.ts';
import type { DataPlane } from '../../src/net/data-plane.ts';
import type { Link } from '../../src/net/elsewhere.ts';
import type { Wire } from '../../src/net/wire.ts';

const SECRET = 'the secret of all relays in these tests';

const LOOPBACK = new PeerNetworks([], '127.0.0.1');

const NOTHING = new Uint8Array(0);

/** How relays of a group in one process reach each other. */
export interface Links {
  /** A server that does not listen yet. `arrived` is told of each link; `failed` of whoever came and has not become one. */
  createServer(
    plane: DataPlane,
    arrived: (wire: Wire, firstBytes: Uint8Array) => void,
    failed: (failure: string) => void,
  ): Server;
  call(plane: DataPlane, host: string, port: number): Promise<Link>;
}

/** Connections as they are, so that as many as like may come at once, and a test may be one end of a link. */
export const BARE_LINKS: Links = {
  createServer: (plane, arrived) =>
    createServer({ allowHalfOpen: true }, (socket) => arrived(plane.wireOfSocket(socket, 'tcp'), NOTHING)),
  call: (plane, host, port) =>
    new Promise((resolve, reject) => {
      const socket = connect({ host, port, allowHalfOpen: true });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve({ wire: plane.wireOfSocket(socket, 'tcp'), firstBytes: NOTHING });
      });
    }),
};

/** Links as relays have them: both ends prove that they have the secret. */
export function provenLinks(isEncrypted: boolean): Links {
  const tls = isEncrypted ? new LinkTls(SECRET) : null;
  const key = greetingKey(SECRET);
  return {
    createServer: (plane, arrived, failed) =>
      new LinkDoor({ plane, secret: SECRET, tls, networks: LOOPBACK, arrived, failed }).createServer(),
    call: (plane, host, port) =>
      callRelay({ plane, key, tls, networks: LOOPBACK, address: { host, port }, timeoutMs: 10_000 }),
  };
}
