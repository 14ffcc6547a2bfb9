import { connect } from 'node:net';
import type { Attacking } from './pair-attacks.ts';
import type { Ports } from './party.ts';
import { sourceAddress } from './source-address.ts';

/** Rows of visitors, each one behind the other. */
const ROWS = 128;

/** Addresses to come from. */
const ADDRESSES = 16;

/**
 * Connects and leaves at once, over and over, for so many seconds. In each row one leaves with a reset, and the next one with
 * a FIN, which the relay has to answer before the row goes on. So nobody comes who finds the relay's backlog full: such a
 * client may believe that it was connected, and the relay has never seen it.
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
