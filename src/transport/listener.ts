import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { fstatSync, lstatSync, unlinkSync } from 'node:fs';
import { chmod, link, lstat, readFile, rename, stat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import type { ListenOptions, Server } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { formatEndpoint } from '../config/endpoint.ts';
import type {
  BoundEndpoint,
  Endpoint,
  SystemdEndpoint,
  TcpEndpoint,
  UnixEndpoint,
} from '../config/endpoint.ts';
import { NO_INHERITED_SOCKETS, findInheritedSocket } from '../config/inherited-sockets.ts';
import type { InheritedSockets } from '../config/inherited-sockets.ts';
import { StartupError, errorCode } from '../process/errors.ts';

/** Tells the operator, in one sentence, why the process can't listen on an endpoint. */
export class ListenError extends StartupError {
  constructor(endpoint: Endpoint, reason: string, options?: ErrorOptions) {
    super(`can't listen on ${formatEndpoint(endpoint)}: ${reason}`, options);
  }
}

/** The kernel limits the listen backlog to net.core.somaxconn, so this requests the maximum. */
const MAX_BACKLOG = 2 ** 31 - 1;

const BIND_ERROR_REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program listens there',
  EADDRNOTAVAIL: 'this machine does not have that address',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'the file system is read-only',
};

/** The default of net.ipv4.ip_unprivileged_port_start. */
const FIRST_FREE_PORT = 1024;

const PRIVILEGED_PORT_HINT =
  '; ports below 1024 need CAP_NET_BIND_SERVICE, or a socket from systemd, or a container port that Docker publishes as this one';

/** The same for an inherited socket. */
const INHERITED_ERROR_REASONS: Readonly<Record<string, string>> = {
  EEXIST: 'another endpoint already uses that socket',
  EINVAL: 'it is not a listening socket; the .socket unit must have ListenStream= and Accept=no',
};

/**
 * Binds `server` and returns the endpoint that it listens on, with port 0 resolved.
 *
 * Without an interface, it listens on both IPv6 and IPv4, or on IPv4 only if the machine has no IPv6. A stale
 * unix socket is replaced. When the server closes, a socket inherited from systemd stays open in systemd, and
 * new clients wait for the next process.
 *
 * @param inherited the sockets that systemd passed
 * @throws ListenError
 */
export async function listen(
  server: Server,
  endpoint: Endpoint,
  inherited: InheritedSockets = NO_INHERITED_SOCKETS,
): Promise<BoundEndpoint> {
  try {
    switch (endpoint.kind) {
      case 'tcp':
        return await listenTcp(server, endpoint);
      case 'unix':
        return await listenUnix(server, endpoint);
      case 'systemd':
        return await listenInherited(server, endpoint, inherited);
    }
  } catch (error) {
    if (error instanceof ListenError) throw error;
    const code = errorCode(error);
    const reasons = endpoint.kind === 'systemd' ? INHERITED_ERROR_REASONS : BIND_ERROR_REASONS;
    const isPrivileged = code === 'EACCES' && endpoint.kind === 'tcp' && endpoint.port < FIRST_FREE_PORT;
    const hint = isPrivileged ? PRIVILEGED_PORT_HINT : '';
    const reason = `${reasons[code] ?? 'unexpected error'} (${code})${hint}`;
    throw new ListenError(endpoint, reason, { cause: error });
  }
}

async function listenTcp(server: Server, endpoint: TcpEndpoint): Promise<TcpEndpoint> {
  const options = { port: endpoint.port, backlog: endpoint.backlog ?? MAX_BACKLOG };
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

async function listenUnix(server: Server, endpoint: UnixEndpoint): Promise<UnixEndpoint> {
  // libuv reports a missing directory as a permission error.
  const directory = await stat(dirname(endpoint.path)).catch(() => null);
  if (directory?.isDirectory() !== true) throw new ListenError(endpoint, 'its directory does not exist');
  const temporary = temporaryPath(endpoint.path);
  await bind(server, { path: temporary, backlog: endpoint.backlog ?? MAX_BACKLOG });
  try {
    if (endpoint.mode !== null) await chmod(temporary, endpoint.mode);
    const identity = fileIdentity(temporary);
    await linkSocketPath(temporary, endpoint);
    unlinkOnClose(server, endpoint.path, identity);
  } catch (error) {
    server.close();
    throw error;
  } finally {
    await unlink(temporary).catch(() => undefined);
  }
  return endpoint;
}

/** Size of `sun_path` without the terminating NUL, see unix(7). */
const MAX_PATH_BYTES = 107;

/**
 * A path in the same directory. Contains the final name if it fits, because `ss` and `lsof` show the
 * temporary path.
 */
function temporaryPath(path: string): string {
  const suffix = randomBytes(3).toString('hex');
  const named = join(dirname(path), `.${basename(path)}.${suffix}`);
  return Buffer.byteLength(named) <= MAX_PATH_BYTES ? named : join(dirname(path), `.${suffix}`);
}

/** Links a bound socket to its final path, unless another program listens there. */
async function linkSocketPath(temporary: string, endpoint: UnixEndpoint): Promise<void> {
  try {
    // Unlike a rename, a link never replaces an existing file.
    await link(temporary, endpoint.path);
  } catch (error) {
    const code = errorCode(error);
    if (code === 'EEXIST') await removeStaleSocket(endpoint);
    else if (!NO_HARD_LINK_CODES.has(code)) throw error;
    else if (fileIdentity(endpoint.path) !== null) await removeStaleSocket(endpoint);
    await (code === 'EEXIST' ? link : rename)(temporary, endpoint.path);
  }
}

const NO_HARD_LINK_CODES: ReadonlySet<string> = new Set([
  'EPERM',
  'ENOSYS',
  'ENOTSUP',
  'EOPNOTSUPP',
  'EMLINK',
]);

/**
 * Removes the socket at `path` when `server` stops listening, if it is still the socket that was bound. libuv
 * would remove any file with the bound name, even the socket of a newer process. It knows only the temporary
 * name.
 */
function unlinkOnClose(server: Server, path: string, identity: string | null): void {
  const close = server.close.bind(server);
  // The event `close` follows the end of the last connection, but the path has to be free as soon as
  // listening ends.
  server.close = (callback) => {
    // Before closing: afterwards, its inode may be reused by the next socket.
    if (server.listening && identity !== null && fileIdentity(path) === identity) unlinkSync(path);
    return close(callback);
  };
}

/** Identifies the file at `path` itself, even if it is a symbolic link. Null if it does not exist. */
function fileIdentity(path: string): string | null {
  const state = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return state === undefined ? null : `${state.dev}:${state.ino}`;
}

async function listenInherited(
  server: Server,
  endpoint: SystemdEndpoint,
  inherited: InheritedSockets,
): Promise<BoundEndpoint> {
  const found = findInheritedSocket(inherited, endpoint.socket);
  if ('problem' in found) throw new ListenError(endpoint, found.problem);
  await bind(server, { fd: found.fd, backlog: MAX_BACKLOG });
  const bound = await inheritedEndpoint(server, found.fd, endpoint);
  if (typeof bound !== 'string') return bound;
  server.close();
  throw new ListenError(endpoint, bound);
}

/** Returns the address of an inherited socket, or how it differs from the endpoint. */
async function inheritedEndpoint(
  server: Server,
  fd: number,
  { domain, tls }: SystemdEndpoint,
): Promise<BoundEndpoint | string> {
  const address = server.address();
  if (address === null || typeof address === 'string') {
    if (domain !== 'UNIX') return 'it is a unix socket, which needs domain=UNIX';
    const path = await unixSocketPath(fd);
    return path === null
      ? 'it has no path in the file system'
      : { kind: 'unix', path, mode: null, backlog: null };
  }
  // A socket for all addresses accepts IPv4 too, so either domain is right.
  const family = address.family === 'IPv6' ? 'INET6' : 'INET';
  if (domain !== family && (domain === 'UNIX' || address.address !== '::')) {
    return `it is a socket for ${address.address}, which needs domain=${family}`;
  }
  return { kind: 'tcp', port: address.port, interface: address.address, backlog: null, tls };
}

/** The path of a unix socket that another process has bound, which Node can't tell; see proc_net(5). */
async function unixSocketPath(fd: number): Promise<string | null> {
  const { ino } = fstatSync(fd);
  // Abstract names begin with @ there, and do not match.
  const line = new RegExp(String.raw`^\S+:(?: \S+){5} +${ino} (/.*)$`, 'mu');
  return line.exec(await readFile('/proc/self/net/unix', 'utf8'))?.[1] ?? null;
}

async function removeStaleSocket(endpoint: UnixEndpoint): Promise<void> {
  if (!(await lstat(endpoint.path)).isSocket())
    throw new ListenError(endpoint, 'the file there is not a socket');
  const identity = fileIdentity(endpoint.path);
  if (await isListening(endpoint.path))
    throw new ListenError(endpoint, 'another program listens there (EADDRINUSE)');
  // If another program has taken the path in the meantime, linking fails.
  if (fileIdentity(endpoint.path) === identity) await unlink(endpoint.path);
}

async function isListening(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    // Only a refused connection proves that no process listens. A full listen backlog (EAGAIN) proves the
    // opposite.
    return errorCode(error) !== 'ECONNREFUSED';
  } finally {
    socket.destroy();
  }
}

async function bind(
  server: Server,
  options: ListenOptions | { readonly fd: number; readonly backlog: number },
): Promise<void> {
  // For a file descriptor, Node ignores the backlog in the options.
  server.listen(options, options.backlog);
  await once(server, 'listening');
}
