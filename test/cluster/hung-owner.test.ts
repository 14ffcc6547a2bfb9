import { describe, test } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { RedisServer, withoutRedis } from '../support/redis.ts';
import { Group, figureIs, transfer, visit, waits } from './relay-group.ts';

describe('a relay that hangs', { skip: withoutRedis() }, () => {
  test('keeps nobody who waits there by way of another from a partner who comes to that one', async (context) => {
    const redis = await RedisServer.start(context);
    await using group = new Group(redis);
    const [owner, other] = [await group.add(), await group.add()];
    const token = newToken();
    await waits(context, owner, token);
    const passedOn = await visit(context, other);
    await passedOn.send(handshake(token, SIDE_A));
    await figureIs(owner, 'connections_waiting', 2);
    owner.kill('SIGSTOP');
    const partner = await visit(context, other);
    await partner.send(handshake(token, SIDE_B));
    await transfer(passedOn, partner, 100_000);
  });
});
