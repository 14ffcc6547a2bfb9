import type { Environment } from './environment.ts';

/** Descriptors from here on are systemd's (SD_LISTEN_FDS_START in sd_listen_fds(3)). */
const FIRST_FD = 3;

/** More than any unit has; a count beyond it is no count. */
const MAX_SOCKETS = 65_536;

/** The sockets that systemd has passed to this process. */
export interface InheritedSockets {
  /** The name of each, which need not be unique; they lie on descriptors 3, 4, 5 and so on. */
  readonly names: readonly string[];
  /** Why there are none, in words for the operator; null where there are some. */
  readonly unavailableReason: string | null;
}

/** For programs that take none. */
export const NO_INHERITED_SOCKETS: InheritedSockets = {
  names: [],
  unavailableReason: 'this program takes no sockets from systemd',
};

/**
 * Reads what systemd says of them: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, see sd_listen_fds(3). Looks at no
 * descriptor.
 *
 * @param pid of this process; for another one's sockets, there are none here
 */
export function readInheritedSockets(environment: Environment, pid: number): InheritedSockets {
  const { LISTEN_PID: owner, LISTEN_FDS: count = '', LISTEN_FDNAMES: joined } = environment;
  if (owner === undefined) {
    return noSockets('systemd passed no sockets: start the relay by its .socket unit, with systemctl');
  }
  if (owner !== String(pid)) {
    return noSockets(
      `systemd passed its sockets to process ${JSON.stringify(owner)} (LISTEN_PID), and this one is ${pid}: ` +
        'ExecStart= has to run node itself, without npm, tini or a shell around it that does not exec',
    );
  }
  const total = /^\d{1,5}$/u.test(count) ? Number(count) : 0;
  if (total === 0 || total > MAX_SOCKETS) {
    return noSockets(`systemd passed no sockets (LISTEN_FDS is ${JSON.stringify(count)})`);
  }
  const names = joined === undefined ? [] : joined.split(':');
  // What systemd calls a socket that has no name.
  return {
    names: Array.from({ length: total }, (_, index) => names[index] ?? 'unknown'),
    unavailableReason: null,
  };
}

function noSockets(unavailableReason: string): InheritedSockets {
  return { names: [], unavailableReason };
}

/**
 * The descriptor of one of them, or why there is none, in words for the operator.
 *
 * @param socket its place, from 0, or its name
 */
export function findInheritedSocket(
  { names, unavailableReason }: InheritedSockets,
  socket: number | string,
): { readonly fd: number } | { readonly problem: string } {
  if (unavailableReason !== null) return { problem: unavailableReason };
  const listed = names.map((name, index) => `${index} (${name})`).join(', ');
  if (typeof socket === 'number') {
    return socket < names.length
      ? { fd: FIRST_FD + socket }
      : { problem: `systemd passed no socket with index ${socket}; there are ${listed}` };
  }
  const found = names.flatMap((name, index) => (name === socket ? [index] : []));
  const [first] = found;
  if (first === undefined) {
    return { problem: `systemd passed no socket with that name (FileDescriptorName=); there are ${listed}` };
  }
  // The sockets of one unit share its name, and Twisted would take the last of them.
  return found.length === 1
    ? { fd: FIRST_FD + first }
    : {
        problem: `systemd passed ${found.length} sockets with that name: use the index; there are ${listed}`,
      };
}
