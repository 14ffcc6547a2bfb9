import { createServer } from 'node:net';
import { isMainThread } from 'node:worker_threads';

/**
 * Preloaded into a relay (`node --import`). It measures turns of the event loop and serves the longest one
 * since the last query, as `Turns` in JSON, at the unix socket `TURN_PROBE_SOCKET`. `turns.ts` is the client.
 *
 * A timer runs once per turn, so the time between two calls covers one turn and the period of the timer. CPU
 * time of the main thread does not depend on other programs on the machine.
 */

const PERIOD_MS = 2;

let lastWallMs = performance.now();
let lastCpuUs = cpuUs();
let turns = { wallMs: 0, cpuMs: 0 };

function cpuUs(): number {
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

function sample(): void {
  const wallMs = performance.now();
  const now = cpuUs();
  turns = {
    wallMs: Math.max(turns.wallMs, wallMs - lastWallMs),
    cpuMs: Math.max(turns.cpuMs, (now - lastCpuUs) / 1000),
  };
  lastWallMs = wallMs;
  lastCpuUs = now;
}

if (isMainThread) {
  setInterval(sample, PERIOD_MS).unref();
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    sample();
    socket.end(JSON.stringify(turns));
    turns = { wallMs: 0, cpuMs: 0 };
  });
  server.listen(process.env['TURN_PROBE_SOCKET']).unref();
}
