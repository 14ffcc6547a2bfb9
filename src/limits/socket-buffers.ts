import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';

/** Kernel settings of this network namespace: minimum, initial and maximum buffer of a connection, in bytes. */
const BUFFER_FILES = ['tcp_rmem', 'tcp_wmem'] as const;

/** The kernel's defaults, in bytes. Linux 6.1; newer kernels receive up to 32 MiB. */
const DEFAULT_MAX_BYTES = { tcp_rmem: 6 * 2 ** 20, tcp_wmem: 4 * 2 ** 20 } as const;

/**
 * The kernel's default for the third number of `tcp_mem`, as a share of the host's memory. `tcp_mem` itself is
 * not visible in the network namespace of a container. tcp(7): it is computed at boot.
 */
const TCP_MEM_SHARE = 3 / 32;

/** What the kernel may buffer for TCP connections. */
export interface SocketBuffers {
  /** For a connection that stalls in both directions. */
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
  const maxima = BUFFER_FILES.map((name) => maximumOf(fileSystem, name) ?? DEFAULT_MAX_BYTES[name]);
  return {
    bytesPerConnection: maxima.reduce((sum, bytes) => sum + bytes, 0),
    maxTotalBytes: Math.floor(machineBytes * TCP_MEM_SHARE),
  };
}

/** The third number; null if the file cannot be read, for example in a sandbox without `/proc/sys`. */
function maximumOf(fileSystem: string, name: string): number | null {
  try {
    const text = readFileSync(join(fileSystem, 'proc/sys/net/ipv4', name), 'latin1');
    const [, maximum] = /^\d+\s+\d+\s+(\d+)\s*$/u.exec(text) ?? [];
    return maximum === undefined ? null : Number(maximum);
  } catch {
    return null;
  }
}
