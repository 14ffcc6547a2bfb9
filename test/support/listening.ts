import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { TestContext } from 'node:test';

/** Listens on a free loopback port until the end of the test. Returns the port. */
export async function listening(
  context: TestContext,
  server: Server & { closeAllConnections(): void },
): Promise<number> {
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

/**
 * Distinct free ports, for programs that need a port number before they listen. They are below those that the kernel
 * gives to connections and to listeners on port 0 (`ip_local_port_range`), which would otherwise take them meanwhile.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = randomInt(10_000, 32_768);
    if (await isFree(port)) ports.add(port);
  }
  return [...ports];
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port);
  try {
    await once(server, 'listening');
  } catch {
    return false;
  }
  await once(server.close(), 'close');
  return true;
}

/** One free port. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  if (port === undefined) throw new Error('no port');
  return port;
}

/** Whether the IPv6 loopback works on this machine. */
export const hasIpv6 = Object.values(networkInterfaces()).some((addresses) =>
  (addresses ?? []).some(({ family, address }) => family === 'IPv6' && address === '::1'),
);
