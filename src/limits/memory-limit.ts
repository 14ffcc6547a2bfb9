import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join, relative } from 'node:path';

/**
 * A relay without connections has 76 to 92 MiB, as the kernel charges it to a container. The rest is for garbage, and for records that
 * wait for a disk. In bytes.
 */
const BASE_BYTES = 128 * 2 ** 20;

/**
 * The worst state of one connection, its share of `RELAY_BUFFER_MEMORY` aside, as the kernel charges it to a container: a stalled pair, 18.7 KiB
 * for each connection by TCP and 19.5 KiB by WebSocket. A request head that never ends takes 15.0 KiB, a client that waits 3.5
 * and 8.8 KiB. In bytes.
 */
export const CONNECTION_BYTES = 20 * 1024;

/** The same where a connection may use TLS: a stalled pair, 101 KiB for each connection. In bytes. */
export const TLS_CONNECTION_BYTES = 120 * 1024;

/** However small the memory is, the relay is of use to some clients. */
const MIN_CONNECTIONS = 100;

/** The share of a machine's memory that the relay plans with where no limit is set: the rest is for the system. */
const MACHINE_SHARE = 0.75;

/** Files with a limit, by version of control groups. Above `memory.high` the kernel slows a process down until it hardly runs. */
const LIMIT_FILES = {
  cgroup2: ['memory.max', 'memory.high'],
  cgroup: ['memory.limit_in_bytes'],
} as const;

export interface MemoryLimit {
  readonly bytes: number;
  /** Which limit it is: that of a control group (a container, a unit of systemd), or a share of the machine's memory. */
  readonly source: 'container' | 'machine';
}

/** What connections need. */
export interface ConnectionRequirements {
  /** Connections may use TLS. */
  readonly hasTls: boolean;
  /** A connection may have a link to another relay beside it. */
  readonly isClustered: boolean;
}

/** Memory of one connection in its worst state, together with its link, in bytes. */
export function worstCaseBytes({ hasTls, isClustered }: ConnectionRequirements): number {
  return (hasTls ? TLS_CONNECTION_BYTES : CONNECTION_BYTES) * (isClustered ? 2 : 1);
}

/**
 * Connections that fit into this memory when all of them are in their worst state.
 *
 * @param bufferBytes `RELAY_BUFFER_MEMORY`
 */
export function connectionsWithinMemory(
  memoryBytes: number,
  bufferBytes: number,
  needs: ConnectionRequirements,
): number {
  const fits = Math.floor((memoryBytes - BASE_BYTES - bufferBytes) / worstCaseBytes(needs));
  return Math.max(MIN_CONNECTIONS, fits);
}

/** Whether that memory is enough for the buffers and the fewest connections. */
export function hasMemoryForBuffers(
  memoryBytes: number,
  bufferBytes: number,
  needs: ConnectionRequirements,
): boolean {
  return memoryBytes >= BASE_BYTES + bufferBytes + MIN_CONNECTIONS * worstCaseBytes(needs);
}

/** Where a control group file system is mounted, and the path of the group that it shows there. */
interface Mount {
  readonly version: keyof typeof LIMIT_FILES;
  readonly root: string;
  readonly mountPoint: string;
}

/**
 * The memory that this process may use. The lowest limit of its control group and of all groups above it counts, as far as they can be
 * seen from here; version 1 and version 2 are read, and both at once.
 *
 * @param fileSystem where `/proc` and the mount points are looked up
 * @param machineBytes memory of the machine
 */
export function memoryLimit(fileSystem = '/', machineBytes = totalmem()): MemoryLimit {
  const cgroups = cgroupPaths(read(join(fileSystem, 'proc/self/cgroup')));
  const mounts = cgroupMounts(read(join(fileSystem, 'proc/self/mountinfo')));
  const limits = mounts.flatMap((mount) => {
    const path = cgroups.get(mount.version);
    return path === undefined ? [] : limitsUpTheTree(fileSystem, mount, path);
  });
  const machine = Math.floor(machineBytes * MACHINE_SHARE);
  const lowest = Math.min(...limits);
  // Where there is no limit, version 1 has a number that no machine's memory comes near to.
  return lowest < machineBytes
    ? { bytes: lowest, source: 'container' }
    : { bytes: machine, source: 'machine' };
}

/** The paths of the process's memory groups. Lines are `0::PATH` in version 2 and `NUMBER:CONTROLLERS:PATH` in version 1. */
function cgroupPaths(text: string): ReadonlyMap<Mount['version'], string> {
  const cgroups = new Map<Mount['version'], string>();
  for (const line of text.split('\n')) {
    const [, number, controllers = '', path = ''] = /^(\d+):([^:]*):(\/.*)$/u.exec(line) ?? [];
    if (number === '0' && controllers === '') cgroups.set('cgroup2', path);
    else if (controllers.split(',').includes('memory')) cgroups.set('cgroup', path);
  }
  return cgroups;
}

/** The mounted hierarchies with a memory controller, as proc(5) describes the lines of `mountinfo`. */
function cgroupMounts(text: string): Mount[] {
  return text.split('\n').flatMap((line): Mount[] => {
    const [fields = '', kind = ''] = line.split(' - ');
    const [, , , root = '', mountPoint = ''] = fields.split(' ').map(unescapeOctal);
    const [type = '', , options = ''] = kind.split(' ');
    if (type === 'cgroup2') return [{ version: type, root, mountPoint }];
    const isMemory = type === 'cgroup' && options.split(',').includes('memory');
    return isMemory ? [{ version: type, root, mountPoint }] : [];
  });
}

/** A blank in a path is written `\040`. */
function unescapeOctal(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/gu, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}

/** The limits of a group and of all above it, up to the one that is mounted. */
function limitsUpTheTree(fileSystem: string, { version, root, mountPoint }: Mount, path: string): number[] {
  const below = relative(root, path);
  // In a container the process may see the path that the host has for it, which is not below its mount.
  const names = below.startsWith('..') ? [] : below.split('/').filter((name) => name !== '');
  const limits: number[] = [];
  for (let depth = names.length; depth >= 0; depth -= 1) {
    const cluster = join(fileSystem, mountPoint, ...names.slice(0, depth));
    for (const file of LIMIT_FILES[version]) {
      const text = read(join(cluster, file)).trim();
      if (/^\d+$/u.test(text)) limits.push(Number(text));
    }
  }
  return limits;
}

/** Empty where it can't be read: the file belongs to another version, or to another system. */
function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
