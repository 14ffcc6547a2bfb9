import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { RateLimiter } from '../../../src/limits/rate-limiter.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { clusterTest, connectAndSend, untilWaitingAt } from './cluster-scenario.ts';
import { TRANSPORTS } from '../../support/test-client.ts';
import type { TestClient } from '../../support/test-client.ts';
import type { TestCluster } from '../../support/test-cluster.ts';

/**
 * Pairs that can read before the clock advances: the rate limiter starts with 50 KB at 1 MB/s, and each takes
 * 16 KiB.
 */
const FIRST_PAIRS = 4;

describe('the rate of all pairs', () => {
  for (const transport of TRANSPORTS) {
    let now = 0;
    const rateLimiter = new RateLimiter(
      { pairBytesPerSecond: null, totalBytesPerSecond: 1_000_000 },
      () => now,
    );
    clusterTest(
      `limits a ${transport} client whose partner connects before the owner of the token is known`,
      async (cluster) => {
        const clients: TestClient[] = [];
        for (let pair = 0; pair < FIRST_PAIRS; pair += 1) clients.push(...(await startPair(cluster)));
        const open = cluster.member(0).ownerGate.shut();
        const [waiter, partner] = await startPair(cluster, transport);
        await waiter.send(Buffer.alloc(20_000));
        // While two more pairs connect, all bytes within the rate have been read.
        clients.push(waiter, partner, ...(await startPair(cluster)), ...(await startPair(cluster)));
        assert.equal((await partner.until(3)).length, 3);
        open();
        now = 60_000;
        await partner.until(20_003);
        for (const client of clients) client.end();
        await Promise.all(clients.map((client) => client.closed));
      },
      { relays: 1, limits: { rateLimiter } },
    );
  }
});

/** Pairs two clients of one relay. If the owner gate is shut, the token's owner is still unknown. */
async function startPair(
  cluster: TestCluster,
  transport: 'tcp' | 'unix' | 'websocket' | 'link' = 'tcp',
): Promise<readonly [TestClient, TestClient]> {
  const token = newToken();
  const waiter = await connectAndSend(cluster, 0, handshake(token, SIDE_A), transport);
  await untilWaitingAt(cluster, 0, 1);
  const partner = await connectAndSend(cluster, 0, handshake(token, SIDE_B));
  await Promise.all([waiter.until(3), partner.until(3)]);
  return [waiter, partner];
}
