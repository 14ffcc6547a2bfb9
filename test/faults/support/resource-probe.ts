import { readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isMainThread } from 'node:worker_threads';

/**
 * Preloaded into a relay (`node --import`), not part of it. It serves the resources that the process holds
 * after a garbage collection, as `ResourceUsage` in JSON, at the unix socket `PROBE_SOCKET`. `monitored-relay.ts` is
 * the client.
 */

/** Number of collections, one per turn: objects that one finalizes are freed by the next. */
const COLLECTIONS = 3;

/** File descriptors that exist only for the answer: its connection, and the directory that is read. */
const OWN_FILES = 2;

setFlagsFromString('--expose-gc');
const collect: unknown = runInNewContext('gc');

function resourceUsage(): object {
  const resources: Record<string, number> = {};
  for (const name of process.getActiveResourcesInfo()) resources[name] = (resources[name] ?? 0) + 1;
  const { heapUsed, external } = process.memoryUsage();
  const fdCount = readdirSync('/proc/self/fd').length - OWN_FILES;
  return { heapBytes: heapUsed + external, resources, fdCount };
}

const server = createServer((socket) => {
  socket.on('error', () => undefined);
  let left = COLLECTIONS;
  const turn = (): void => {
    if (typeof collect === 'function') Reflect.apply(collect, undefined, []);
    left -= 1;
    if (left > 0) setImmediate(turn);
    else socket.end(JSON.stringify(resourceUsage()));
  };
  turn();
});
// Threads of the relay preload this too. The probe must not keep the relay alive.
if (isMainThread) server.listen(process.env['PROBE_SOCKET']).unref();
