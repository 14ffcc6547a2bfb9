import { connect } from 'node:net';
import type { Attacking } from './pair-attacks.ts';
import type { Ports } from './party.ts';
import { sourceAddress } from './source-address.ts';

/** Connections under way at once. Few, so that the relay's backlog is not what is measured. */
const AT_ONCE = 128;

/** Addresses to come from. */
const ADDRESSES = 16;

/** Connects and leaves at once, over and over, for so many seconds: one with a FIN, the next one with a reset. */
export async function churn({ raw: port }: Ports, seconds: number): Promise<Attacking> {
  const startedAt = performance.now();
  const end = startedAt + seconds * 1000;
  let tries = 0;
  let connected = 0;
  const visit = (): Promise<void> => {
    tries += 1;
    const wantsReset = tries % 2 === 0;
    const socket = connect({ port, host: '127.0.0.1', localAddress: sourceAddress(tries, ADDRESSES) });
    return new Promise((resolve) => {
      socket.once('connect', () => {
        connected += 1;
        if (wantsReset) socket.resetAndDestroy();
        else socket.destroy();
      });
      socket.once('error', () => undefined);
      socket.once('close', () => resolve());
    });
  };
  const visitOneAfterTheOther = async (): Promise<void> => {
    while (performance.now() < end) await visit();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, visitOneAfterTheOther));
  const perSecond = Math.round(connected / ((performance.now() - startedAt) / 1000));
  return { ready: { connected, failed: tries - connected, perSecond }, end: () => ({}) };
}
