import { connect } from 'node:net';
import type { Attacking } from './pair-attacks.ts';
import type { Ports } from './pair-client.ts';
import { sourceAddress } from './source-address.ts';

/** Concurrent rows of visits, each sequential. */
const ROWS = 128;

/** Number of source addresses. */
const ADDRESSES = 16;

/**
 * Connects and disconnects continuously for that many seconds. In each row, every second client leaves with a
 * reset, the others with a FIN that the relay must answer before the row continues. So no client meets a full
 * listen backlog: such a client might believe it was connected although the relay never saw it.
 */
export async function churn({ raw: port }: Ports, seconds: number): Promise<Attacking> {
  const startedAt = performance.now();
  const end = startedAt + seconds * 1000;
  let tries = 0;
  let connected = 0;
  const visit = (wantsReset: boolean): Promise<void> => {
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
  const row = async (): Promise<void> => {
    while (performance.now() < end) {
      await visit(true);
      await visit(false);
    }
  };
  await Promise.all(Array.from({ length: ROWS }, row));
  const perSecond = Math.round(connected / ((performance.now() - startedAt) / 1000));
  return { ready: { connected, failed: tries - connected, perSecond }, end: () => ({}) };
}
