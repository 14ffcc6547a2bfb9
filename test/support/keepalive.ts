import { spawnSync } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { PYTHON } from './socket-activation.ts';

/** Socket options of one TCP connection of this process, read from the kernel. */
export interface KeepAliveOptions {
  readonly localPort: number;
  readonly remotePort: number;
  /** Seconds before the first probe, seconds between probes, probes. Null: keepalive is off. */
  readonly keepAlive: readonly [delay: number, interval: number, probes: number] | null;
  /** True: small writes are sent at once (`TCP_NODELAY`). */
  readonly noDelay: boolean;
}

/** Reads the options of its inherited sockets, from file descriptor 3 on. */
const SCRIPT = `
import json, socket, sys
found = []
for fd in range(3, 3 + int(sys.argv[1])):
    one = socket.socket(fileno=fd)
    try:
        local, remote = one.getsockname(), one.getpeername()
        if one.family == socket.AF_UNIX: continue
        tcp = [one.getsockopt(socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)]
        on = one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        no_delay = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        found.append({'localPort': local[1], 'remotePort': remote[1], 'keepAlive': tcp if on else None, 'noDelay': no_delay})
    except OSError: pass
print(json.dumps(found))
`;

/** The options of all TCP connections of this process. */
export function keepAliveOptions(): readonly KeepAliveOptions[] {
  const sockets = readdirSync('/proc/self/fd').map(Number).filter(isSocket);
  const { stdout, stderr, status } = spawnSync(PYTHON, ['-c', SCRIPT, String(sockets.length)], {
    stdio: ['ignore', 'pipe', 'pipe', ...sockets],
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`keepalive options: ${stderr}`);
  const found: unknown = JSON.parse(stdout);
  if (!Array.isArray(found)) throw new Error('keepalive options: not a list');
  return found;
}

function isSocket(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
  } catch {
    return false;
  }
}
