import { chmod, lstat, stat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import type { ListenOptions, Server } from 'node:net';
import { dirname } from 'node:path';
import { errorCode } from '../error-code.ts';
import { formatEndpoint } from './endpoint.ts';
import type { Endpoint } from './endpoint.ts';

/** Why an endpoint can't be listened on, in a sentence for the operator. */
export class ListenError extends Error {}

/** The kernel cuts a backlog down to net.core.somaxconn, so this asks for all there is. */
const DEEPEST_BACKLOG = 2 ** 31 - 1;

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program listens there',
  EADDRNOTAVAIL: 'this machine does not have that address',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'the file system is read-only',
};

/**
 * Binds `server` and returns the endpoint it really listens on, with port 0 resolved.
 *
 * Without an interface it listens on IPv6 and IPv4 at once, or on IPv4 alone where there is no IPv6. A
 * unix socket that nobody listens on any more is replaced.
 *
 * @throws ListenError
 */
export async function listen(server: Server, endpoint: Endpoint): Promise<Endpoint> {
  try {
    return endpoint.kind === 'tcp' ? await listenTcp(server, endpoint) : await listenUnix(server, endpoint);
  } catch (error) {
    if (error instanceof ListenError) throw error;
    const code = errorCode(error);
    throw new ListenError(
      `can't listen on ${formatEndpoint(endpoint)}: ${REASONS[code] ?? 'it failed'} (${code})`,
      {
        cause: error,
      },
    );
  }
}

async function listenTcp(server: Server, endpoint: Endpoint & { kind: 'tcp' }): Promise<Endpoint> {
  const options = { port: endpoint.port, backlog: endpoint.backlog ?? DEEPEST_BACKLOG };
  if (endpoint.interface === null) {
    try {
      await bind(server, { ...options, host: '::' });
    } catch (error) {
      if (!['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL'].includes(errorCode(error))) throw error;
      await bind(server, { ...options, host: '0.0.0.0' });
    }
  } else {
    await bind(server, { ...options, host: endpoint.interface });
  }
  const address = server.address();
  if (address === null || typeof address === 'string') return endpoint;
  return { ...endpoint, port: address.port, interface: address.address };
}

async function listenUnix(server: Server, endpoint: Endpoint & { kind: 'unix' }): Promise<Endpoint> {
  const options = { path: endpoint.path, backlog: endpoint.backlog ?? DEEPEST_BACKLOG };
  // libuv reports a missing directory as one without permission.
  const directory = await stat(dirname(endpoint.path)).catch(() => null);
  if (directory?.isDirectory() !== true) {
    throw new ListenError(`can't listen on ${formatEndpoint(endpoint)}: its directory does not exist`);
  }
  try {
    await bind(server, options);
  } catch (error) {
    if (errorCode(error) !== 'EADDRINUSE') throw error;
    await removeStaleSocket(endpoint);
    await bind(server, options);
  }
  if (endpoint.mode !== null) await chmod(endpoint.path, endpoint.mode);
  return endpoint;
}

async function removeStaleSocket(endpoint: Endpoint & { kind: 'unix' }): Promise<void> {
  const name = formatEndpoint(endpoint);
  if (!(await lstat(endpoint.path)).isSocket()) {
    throw new ListenError(`can't listen on ${name}: there is a file of that name, and it is no socket`);
  }
  if (await somebodyListens(endpoint.path)) {
    throw new ListenError(`can't listen on ${name}: another program listens there (EADDRINUSE)`);
  }
  await unlink(endpoint.path);
}

function somebodyListens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // Only a refused connection proves that nobody is there; a full backlog (EAGAIN) proves the opposite.
    socket.once('error', (error) => resolve(errorCode(error) !== 'ECONNREFUSED'));
  });
}

function bind(server: Server, options: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(options, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
