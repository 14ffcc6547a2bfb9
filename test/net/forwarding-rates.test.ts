import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { RateLimiter } from '../../src/limits/rate-limiter.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { TRANSPORTS, clusterTest, connectAndSend, untilWaitingAt } from '../support/cluster-scenario.ts';
import type { TestClient } from '../support/test-client.ts';
import type { TestCluster } from '../support/test-cluster.ts';

/** So many may read at the first moment, at 1 MB/s: the pacer has 50 KB to begin with, and takes 16 KiB from each. */
const FIRST_PAIRS = 4;

describe('the rate of all pairs', () => {
  for (const transport of TRANSPORTS) {
    let now = 0;
    const rateLimiter = new RateLimiter(
      { pairBytesPerSecond: null, totalBytesPerSecond: 1_000_000 },
      () => now,
    );
    clusterTest(
      `is kept by a ${transport} client whose partner comes before it is known where to look`,
      async (cluster) => {
        const clients: TestClient[] = [];
        for (let pair = 0; pair < FIRST_PAIRS; pair += 1) clients.push(...(await meet(cluster)));
        const open = cluster.member(0).ownerGate.shut();
        const [waiter, partner] = await meet(cluster, transport);
        await waiter.send(Buffer.alloc(20_000));
        // Whatever was to be read has been read when others have met meanwhile.
        clients.push(waiter, partner, ...(await meet(cluster)), ...(await meet(cluster)));
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

/** Two that come to one relay; the first of them does not know yet whose its token is where no answers are given. */
async function meet(
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
