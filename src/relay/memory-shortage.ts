import { MemoryGuard, readMemoryUsage } from '../limits/memory-guard.ts';
import type { MemoryLimit } from '../limits/memory-limit.ts';
import { LogThrottle } from '../process/logging.ts';
import type { Log } from '../process/logging.ts';
import type { SessionManager } from '../sessions/session-manager.ts';
import type { Warnings } from './warnings.ts';

/** Minimum time between two log lines, in milliseconds. */
const LOG_INTERVAL_MS = 10_000;

/** How long a shortage of memory counts as a current problem, in milliseconds. */
const WARNING_MS = 600_000;

const HINT =
  'raise the memory limit, lower net.ipv4.tcp_rmem and tcp_wmem, or set RELAY_MAX_CONNECTIONS_PER_ADDRESS';

const PAIRS_ENDED = `stalled pairs ended: buffers of the kernel have used up the memory; ${HINT}`;

const NO_PAIR_STALLED = `buffers of the kernel have used up the memory, and no pair is stalled; ${HINT}`;

/**
 * Creates the guard that ends stalled pairs before the kernel kills the relay, and logs it. Null where the
 * kernel's buffers do not count in a memory limit.
 *
 * @param clock milliseconds of a monotonic clock
 */
export function createMemoryGuard(
  { bytes, cgroup2 }: MemoryLimit,
  sessions: SessionManager,
  { log, warnings }: { readonly log: Log; readonly warnings: Warnings },
  clock: () => number,
): MemoryGuard | null {
  if (cgroup2 === null) return null;
  const onEnded = new LogThrottle(LOG_INTERVAL_MS, clock);
  const onNoneEnded = new LogThrottle(LOG_INTERVAL_MS, clock);
  const raisingLog = warnings.raising(log, WARNING_MS);
  const guard = new MemoryGuard({
    limitBytes: bytes,
    readUsage: () => readMemoryUsage(cgroup2),
    endStalled: (share, minStallMs) => sessions.endStalled(share, minStallMs),
    onShortage: (ended, { unreclaimable: usedBytes, sockets: socketBytes }) => {
      const usage = { used_bytes: usedBytes, socket_bytes: socketBytes, memory_bytes: bytes };
      if (ended === 0)
        onNoneEnded.log(() => raisingLog.warn({ event: 'memory_shortage', ...usage }, NO_PAIR_STALLED));
      else
        onEnded.log(() => {
          const fields = { event: 'stalled_pairs_ended', ended_pairs: guard.endedPairs, ...usage } as const;
          raisingLog.warn(fields, PAIRS_ENDED);
        });
    },
  });
  return guard;
}
