import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join, relative } from 'node:path';

/** Share of the host's memory that the relay may use if there is no limit. The rest is for the system. */
const MACHINE_SHARE = 0.75;

/**
 * Files with a limit, by cgroup version. Above `memory.high` the kernel throttles a process until it hardly
 * runs.
 */
const LIMIT_FILES = {
  cgroup2: ['memory.max', 'memory.high'],
  cgroup: ['memory.limit_in_bytes'],
} as const;

export interface MemoryLimit {
  readonly bytes: number;
  /** The limit of a cgroup (a container, a systemd unit), or a share of the host's memory. */
  readonly source: 'container' | 'machine';
  /**
   * Directory of the cgroup with this limit if it is of version 2, otherwise null. Only there, the kernel charges
   * buffers of sockets to the limit, and kills the process if they exceed it. In version 1 they are a counter of
   * their own, without a limit; and on a machine without a limit, `tcp_mem` bounds them to less than the share that
   * is left for the system.
   */
  readonly cgroup2: string | null;
}

/** A mounted cgroup file system, and the path of the cgroup at its root. */
interface Mount {
  readonly version: keyof typeof LIMIT_FILES;
  readonly root: string;
  readonly mountPoint: string;
}

/**
 * The memory that this process may use: the lowest limit of its cgroup and of all visible parents. Reads
 * version 1, version 2, and both at once.
 *
 * @param fileSystem prefix of `/proc` and of the mount points
 * @param machineBytes memory of the host
 */
export function memoryLimit(fileSystem = '/', machineBytes = totalmem()): MemoryLimit {
  const cgroups = cgroupPaths(read(join(fileSystem, 'proc/self/cgroup')));
  const mounts = cgroupMounts(read(join(fileSystem, 'proc/self/mountinfo')));
  const limits = mounts.flatMap((mount) => {
    const path = cgroups.get(mount.version);
    const found = path === undefined ? [] : limitsUpTheTree(fileSystem, mount, path);
    return found.map(({ bytes, cgroup }) => ({
      bytes,
      cgroup2: mount.version === 'cgroup2' ? cgroup : null,
    }));
  });
  const [lowest] = limits.toSorted((one, other) => one.bytes - other.bytes);
  // Version 1 has a number larger than the memory of any host if there is no limit.
  if (lowest === undefined || lowest.bytes >= machineBytes)
    return {
      bytes: Math.floor(machineBytes * MACHINE_SHARE),
      source: 'machine',
      cgroup2: null,
    };
  return {
    bytes: lowest.bytes,
    source: 'container',
    cgroup2: lowest.cgroup2,
  };
}

/**
 * The paths of the memory cgroups of the process. Lines are `0::PATH` in version 2, `NUMBER:CONTROLLERS:PATH`
 * in version 1.
 */
function cgroupPaths(text: string): ReadonlyMap<Mount['version'], string> {
  const cgroups = new Map<Mount['version'], string>();
  for (const line of text.split('\n')) {
    const [, number, controllers = '', path = ''] = /^(\d+):([^:]*):(\/.*)$/u.exec(line) ?? [];
    if (number === '0' && controllers === '') cgroups.set('cgroup2', path);
    else if (controllers.split(',').includes('memory')) cgroups.set('cgroup', path);
  }
  return cgroups;
}

/** The mounted hierarchies with a memory controller. proc(5) describes the lines of `mountinfo`. */
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

/** A space in a path is written as `\040`. */
function unescapeOctal(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/gu, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}

/** The limits of a cgroup and of all its parents, up to the mounted one. */
function limitsUpTheTree(
  fileSystem: string,
  { version, root, mountPoint }: Mount,
  path: string,
): { bytes: number; cgroup: string }[] {
  const below = relative(root, path);
  // In a container the process may see its path on the host, which is not below the mount.
  const names = below.startsWith('..') ? [] : below.split('/').filter((name) => name !== '');
  const limits: { bytes: number; cgroup: string }[] = [];
  for (let depth = names.length; depth >= 0; depth -= 1) {
    const cgroup = join(fileSystem, mountPoint, ...names.slice(0, depth));
    for (const file of LIMIT_FILES[version]) {
      const text = read(join(cgroup, file)).trim();
      if (/^\d+$/u.test(text)) limits.push({ bytes: Number(text), cgroup });
    }
  }
  return limits;
}

/**
 * Empty if the file cannot be read, for example because it is of another cgroup version or operating system.
 */
function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
