import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';

/** Kernel settings of this network namespace: minimum, initial and maximum buffer of a connection, in bytes. */
const BUFFER_FILES = ['tcp_rmem', 'tcp_wmem'] as const;

/** The kernel's defaults of the initial buffers, in bytes. */
const DEFAULT_INITIAL_BYTES = { tcp_rmem: 131_072, tcp_wmem: 16_384 } as const;

/**
 * The kernel's default for the third number of `tcp_mem`, as a share of the host's memory. `tcp_mem` itself is
 * not visible in the network namespace of a container. tcp(7): it is computed at boot.
 */
const TCP_MEM_SHARE = 3 / 32;

/** What the kernel may buffer for TCP connections. */
export interface SocketBuffers {
  /** For a connection in both directions, before the kernel enlarges them. */
  readonly bytesPerConnection: number;
  /** For all connections of the host. */
  readonly maxTotalBytes: number;
}

/**
 * Reads how much the kernel may buffer.
 *
 * @param fileSystem prefix of `/proc`
 * @param machineBytes memory of the host
 */
export function readSocketBuffers(fileSystem = '/', machineBytes = totalmem()): SocketBuffers {
  const initial = BUFFER_FILES.map((name) => initialOf(fileSystem, name) ?? DEFAULT_INITIAL_BYTES[name]);
  return {
    bytesPerConnection: initial.reduce((sum, bytes) => sum + bytes, 0),
    maxTotalBytes: Math.floor(machineBytes * TCP_MEM_SHARE),
  };
}

/** The second number; null if the file cannot be read, for example in a sandbox without `/proc/sys`. */
function initialOf(fileSystem: string, name: string): number | null {
  try {
    const text = readFileSync(join(fileSystem, 'proc/sys/net/ipv4', name), 'latin1');
    const [, initial] = /^\d+\s+(\d+)\s+\d+\s*$/u.exec(text) ?? [];
    return initial === undefined ? null : Number(initial);
  } catch {
    return null;
  }
}
