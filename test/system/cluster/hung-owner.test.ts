import { describe, test } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { RedisServer, withoutRedis } from '../../support/redis.ts';
import {
  ProcessCluster,
  untilMetric,
  transfer,
  connectClient,
  startWaitingClient,
} from './process-cluster.ts';

describe('a relay that hangs', { skip: withoutRedis() }, () => {
  test('does not keep a client forwarded to it from a partner that connects to its own relay', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis);
    const [owner, other] = [await cluster.add(), await cluster.add()];
    const token = newToken();
    await startWaitingClient(context, owner, token);
    const forwarded = await connectClient(context, other);
    await forwarded.send(handshake(token, SIDE_A));
    await untilMetric(owner, 'connections_waiting', 2);
    owner.kill('SIGSTOP');
    const partner = await connectClient(context, other);
    await partner.send(handshake(token, SIDE_B));
    await transfer(forwarded, partner, 100_000);
  });
});
