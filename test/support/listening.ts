import { once } from 'node:events';
import type { Server } from 'node:http';
import type { TestContext } from 'node:test';

/** Lets a server listen on a free loopback port for as long as the test lasts, and returns that port. */
export async function listening(context: TestContext, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server without a port');
  return address.port;
}
