import type { Environment } from './environment.ts';

/** Descriptors from here on are systemd's (SD_LISTEN_FDS_START in sd_listen_fds(3)). */
const FIRST_FD = 3;

/** Larger than in any unit; larger counts are invalid. */
const MAX_SOCKETS = 65_536;

/** Sockets passed by systemd. */
export interface InheritedSockets {
  /** Names of the sockets, not necessarily unique. Their descriptors are 3, 4, 5 and so on. */
  readonly names: readonly string[];
  /** Why there are none, for the operator; null if there are some. */
  readonly unavailableReason: string | null;
}

/** For programs without socket activation. */
export const NO_INHERITED_SOCKETS = noSockets('this program does not accept sockets from systemd');

/**
 * Reads systemd's variables LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, see sd_listen_fds(3). It does not
 * access the descriptors.
 *
 * @param pid of this process; sockets for another process are ignored
 */
export function readInheritedSockets(environment: Environment, pid: number): InheritedSockets {
  const { LISTEN_PID: owner, LISTEN_FDS: count = '', LISTEN_FDNAMES: joined } = environment;
  if (owner === undefined) {
    return noSockets('systemd passed no sockets: start the relay with its .socket unit, with systemctl');
  }
  if (owner !== String(pid)) {
    return noSockets(
      `systemd passed its sockets to process ${JSON.stringify(owner)} (LISTEN_PID), and this one is ${pid}: ` +
        'ExecStart= must run node directly, without npm, tini or a shell that does not exec',
    );
  }
  const total = /^\d{1,5}$/u.test(count) ? Number(count) : 0;
  if (total === 0 || total > MAX_SOCKETS) {
    return noSockets(`systemd passed no sockets (LISTEN_FDS is ${JSON.stringify(count)})`);
  }
  const names = joined === undefined ? [] : joined.split(':');
  // systemd's own name for a socket without one is `unknown`.
  return {
    names: Array.from({ length: total }, (_, index) => names[index] ?? 'unknown'),
    unavailableReason: null,
  };
}

function noSockets(unavailableReason: string): InheritedSockets {
  return { names: [], unavailableReason };
}

/**
 * Returns the descriptor of a socket, or the problem for the operator.
 *
 * @param socket index from 0, or name
 */
export function findInheritedSocket(
  { names, unavailableReason }: InheritedSockets,
  socket: number | string,
): { readonly fd: number } | { readonly problem: string } {
  if (unavailableReason !== null) return { problem: unavailableReason };
  const [fd, ...others] = names.flatMap((name, index) =>
    index === socket || name === socket ? [FIRST_FD + index] : [],
  );
  const listed = names.map((name, index) => `${index} (${name})`).join(', ');
  if (fd === undefined) {
    const which = typeof socket === 'number' ? `index ${socket}` : 'that name (FileDescriptorName=)';
    return { problem: `systemd passed no socket with ${which}; there are ${listed}` };
  }
  if (others.length === 0) return { fd };
  // The sockets of one unit share its name. Twisted would use the last one.
  const count = others.length + 1;
  return {
    problem: `systemd passed ${count} sockets with that name: use the index; there are ${listed}`,
  };
}
