import { connect, isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { CoordinatorAddress } from '../config/cluster-config.ts';

/** Idle time before the first TCP keepalive probe, in milliseconds. */
const KEEP_ALIVE_MS = 5000;

export interface Timer extends Disposable {
  /** Starts the time again. */
  refresh(): unknown;
}

/**
 * Time, randomness and the connection to the coordinator. The simulation (`test/simulation/`) has its own, so that leases can
 * be tested for hours of simulated time, with every failure of the network.
 */
export interface Runtime {
  /** Milliseconds of a monotonic clock. */
  now(): number;
  /** A number from 0, less than 1. */
  random(): number;
  setTimeout(callback: () => void, ms: number): Timer;
  setImmediate(callback: () => void): void;
  /**
   * Connects to the coordinator. The stream emits `error` if that fails.
   *
   * @param onOpen called when bytes can be sent: with TLS, after the certificate check
   */
  connect(address: CoordinatorAddress, onOpen: () => void): Duplex;
}

/** The functions of Node.js. */
export const NODE_RUNTIME: Runtime = {
  now: () => performance.now(),
  random: () => Math.random(),
  setTimeout: (callback, ms) => setTimeout(callback, ms),
  setImmediate: (callback) => {
    setImmediate(callback);
  },
  connect: ({ host, port, tls }, onOpen) => {
    const socket = tls
      ? connectTls({ host, port, ...(isIP(host) === 0 ? { servername: host } : {}) }, onOpen)
      : connect({ host, port }, onOpen);
    // Pending commands have a timer, which keeps the process running.
    return socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS).unref();
  },
};

/** Does nothing if the timer is undefined or has ended. */
export function clearTimer(timer: Timer | undefined): void {
  timer?.[Symbol.dispose]();
}

/** Resolves after a time in milliseconds, or when `signal` is aborted. */
export function sleep(runtime: Runtime, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const end = (): void => {
      clearTimer(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = runtime.setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}
