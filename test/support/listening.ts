import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { TestContext } from 'node:test';

/**
 * Listens on a free loopback port until the end of the test, and ignores errors of its connections. Returns the
 * port.
 */
export async function listening(context: TestContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server without a port');
  return address.port;
}

/**
 * Ports below those that the kernel gives to clients (from 32,768 on), which would take a port before the program
 * listens. Browsers block some ports up to 10,080.
 */
const FIRST_PORT = 11_000;
const PORTS = 21_000;

/** Different in each process. */
let nextPort = randomInt(PORTS);

/** Distinct free ports, for programs that need a port number before they listen. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = FIRST_PORT + nextPort;
    nextPort = (nextPort + 1) % PORTS;
    if (await isFree(port)) ports.push(port);
  }
  return ports;
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

/** Whether a server listens on this port. */
export async function canConnect(port: number, host: string): Promise<boolean> {
  const socket = connect({ port, host });
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** Whether the IPv6 loopback works on this machine. */
export const hasIpv6 = Object.values(networkInterfaces()).some((addresses) =>
  (addresses ?? []).some(({ family, address }) => family === 'IPv6' && address === '::1'),
);
