import { connect } from 'node:net';
import type { Attacking } from './pair-attacks.ts';
import type { Ports } from './pair-client.ts';
import { sourceAddress } from './source-address.ts';

/** Number of workers, which connect one client after the other. */
const WORKERS = 128;

/** Number of source addresses. */
const ADDRESSES = 16;

/**
 * Connects and disconnects continuously for that many seconds. Every second client of a worker disconnects
 * with a reset, the others with a FIN, which the relay must answer before the worker continues. So the listen
 * backlog is never full: with a full one, a client may believe that it is connected although the relay never
 * accepts it.
 */
export async function churn({ raw: port }: Ports, seconds: number): Promise<Attacking> {
  const startedAt = performance.now();
  const end = startedAt + seconds * 1000;
  let tries = 0;
  let connected = 0;
  const connectOnce = (wantsReset: boolean): Promise<void> => {
    tries += 1;
    const localAddress = sourceAddress(tries, ADDRESSES);
    const socket = connect({ port, host: '127.0.0.1', localAddress });
    return new Promise((resolve) => {
      socket.once('connect', () => {
        connected += 1;
        if (wantsReset) socket.resetAndDestroy();
        else socket.resume().end();
      });
      socket.once('error', () => undefined);
      socket.once('close', () => resolve());
    });
  };
  const worker = async (): Promise<void> => {
    while (performance.now() < end) {
      await connectOnce(true);
      await connectOnce(false);
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, worker));
  const perSecond = Math.round(connected / ((performance.now() - startedAt) / 1000));
  return { ready: { connected, failed: tries - connected, perSecond }, end: () => ({}) };
}
