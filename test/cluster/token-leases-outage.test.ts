import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Detour, RedisServer, withoutRedis } from '../support/redis.ts';
import { until } from '../support/scratch.ts';
import { LeaseMember, SELF, countLeases, keyOf, ownerOf, tokenOf, untilOwned } from './lease-fixture.ts';

const TOKEN = tokenOf(1);

describe('without a coordinator that does what it is asked', { skip: withoutRedis() }, () => {
  test('a relay is the provisional owner, and acquires its leases when there is one', async (context) => {
    const redis = await RedisServer.start(context);
    await redis.kill();
    const one = new LeaseMember(context, 1, redis);
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    assert.deepEqual(await one.leases.acquire(tokenOf(2)), SELF);
    one.leases.release(tokenOf(2));
    await until(() => one.leases.desired === 1);
    await until(() => one.notifications.length > 0);
    await redis.restart();
    const admin = await redis.admin();
    await untilOwned(admin, TOKEN, one.self);
    await until(() => one.leases.acquired === 1);
    assert.equal(await countLeases(admin), 1);
    assert.deepEqual(one.notifications, ['ECONNREFUSED', 'up']);
  });

  test('one that comes back empty has all leases again, and each change is reported once', async (context) => {
    const redis = await RedisServer.start(context);
    const one = await LeaseMember.start(context, 1, redis);
    const tokens = Array.from({ length: 1200 }, (_, at) => tokenOf(at));
    await Promise.all(tokens.map((token) => one.leases.acquire(token)));
    await redis.kill();
    await until(() => !one.leases.isUp);
    // These were released, or came, while it was away.
    for (const token of tokens.slice(0, 100)) one.leases.release(token);
    assert.deepEqual(await one.leases.acquire(tokenOf(5000)), SELF);
    await until(() => one.leases.desired === 1101);
    await redis.restart();
    const admin = await redis.admin();
    while ((await countLeases(admin)) < 1101);
    assert.equal(await countLeases(admin), 1101);
    assert.equal(await ownerOf(admin, tokenOf(99)), null);
    await until(() => one.leases.acquired === 1101);
    assert.equal(one.notifications.length, 3);
    assert.deepEqual([one.notifications[0], one.notifications[2]], ['up', 'up']);
  });

  test('two relays have the same token; then one loses it, and knows to whom', async (context) => {
    const redis = await RedisServer.start(context);
    const members = [await LeaseMember.start(context, 1, redis), await LeaseMember.start(context, 2, redis)];
    await redis.kill();
    await until(() => members.every(({ leases }) => !leases.isUp));
    const tokens = Array.from({ length: 50 }, (_, at) => tokenOf(at));
    for (const { leases } of members) {
      for (const token of tokens) assert.deepEqual(await leases.acquire(token), SELF);
    }
    await redis.restart();
    const admin = await redis.admin();
    await until(() =>
      members.every(
        ({ leases, notifications }) => notifications.length === 3 && leases.desired === leases.acquired,
      ),
    );
    const [one, two] = members;
    assert.ok(one !== undefined && two !== undefined);
    for (const token of tokens) {
      const owner = await ownerOf(admin, token);
      const isFirst: boolean = owner?.id === one.self.id;
      const winner: LeaseMember = isFirst ? one : two;
      const loser: LeaseMember = isFirst ? two : one;
      assert.deepEqual(owner, winner.self);
      assert.deepEqual(
        loser.lost.filter((lost) => lost.token === token),
        [{ token, owner: winner.self }],
      );
      assert.ok(!winner.lost.some((lost) => lost.token === token));
    }
    assert.equal(one.leases.acquired + two.leases.acquired, 50);
  });

  test('no client waits for one that hangs, and its late replies count', async (context) => {
    const redis = await RedisServer.start(context);
    const [one, two] = [
      await LeaseMember.start(context, 1, redis),
      await LeaseMember.start(context, 2, redis),
    ];
    await two.leases.acquire(TOKEN);
    redis.freeze();
    // The first one takes half a second; after that it is known.
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    assert.equal(one.leases.isUp, false);
    assert.deepEqual(await one.leases.acquire(tokenOf(2)), SELF);
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    one.leases.release(tokenOf(2));
    redis.thaw();
    await until(() => one.leases.isUp && one.lost.length > 0);
    assert.deepEqual(one.lost, [{ token: TOKEN, owner: two.self }]);
    assert.deepEqual(one.notifications, ['up', 'ETIMEDOUT', 'up']);
    await until(() => one.leases.desired === 0);
    assert.equal(await countLeases(await redis.admin()), 1);
  });

  test('one that hangs on is given up, and keeps no memory of clients that have gone', async (context) => {
    const redis = await RedisServer.start(context);
    const one = await LeaseMember.start(context, 1, redis);
    redis.freeze();
    // More than may be on their way.
    const answers = Array.from({ length: 15_000 }, (_, at) => one.leases.acquire(tokenOf(at)));
    for (let at = 1; at < 15_000; at += 1) one.leases.release(tokenOf(at));
    for (const answer of await Promise.all(answers)) assert.deepEqual(answer, SELF);
    assert.ok(one.leases.desired <= 10_000, String(one.leases.desired));
    // Those that are on their way are remembered until the connection is given up, and no longer.
    await until(() => one.leases.desired === 1);
    assert.deepEqual(one.notifications, ['up', 'ETIMEDOUT']);
    redis.thaw();
    await untilOwned(await redis.admin(), tokenOf(0), one.self);
  });

  test('one that allows no login within five seconds is retried', async (context) => {
    const redis = await RedisServer.start(context);
    redis.freeze();
    const one = new LeaseMember(context, 1, redis);
    await until(() => one.notifications.length > 0);
    redis.thaw();
    await until(() => one.leases.isUp);
    assert.deepEqual(one.notifications, ['ETIMEDOUT', 'up']);
    // What hung before is gone.
    const admin = await redis.admin();
    const list = await admin.clientList();
    assert.equal(list.filter(({ name }) => name === 'transit-relay').length, 1);
  });

  test('one that is slow gets commands all the same, and no client waits', async (context) => {
    const redis = await RedisServer.start(context);
    const detour = await Detour.to(context, redis.port);
    const [one, two] = [
      await LeaseMember.start(context, 1, detour),
      await LeaseMember.start(context, 2, redis),
    ];
    await two.leases.acquire(TOKEN);
    detour.delayMs = 350;
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    await until(() => one.lost.length === 1);
    // By now it is known to be slow.
    assert.deepEqual(await one.leases.acquire(tokenOf(2)), SELF);
    assert.deepEqual([one.leases.isUp, one.leases.acquired], [false, 0]);
    await until(() => one.leases.acquired === 1);
    assert.equal(one.leases.isUp, false);
    assert.deepEqual(await ownerOf(await redis.admin(), tokenOf(2)), one.self);
    detour.delayMs = 0;
    await until(() => one.leases.isUp);
    assert.deepEqual(one.notifications, ['up', 'ETIMEDOUT', 'up']);
  });

  test('a relay that is cut off from it learns its lost leases when it is back', async (context) => {
    const redis = await RedisServer.start(context);
    const detour = await Detour.to(context, redis.port);
    const [one, two] = [
      await LeaseMember.start(context, 1, detour),
      await LeaseMember.start(context, 2, redis),
    ];
    await one.leases.acquire(TOKEN);
    await one.leases.acquire(tokenOf(2));
    detour.cut();
    await until(() => !one.leases.isUp);
    assert.deepEqual(await two.leases.takeOver(TOKEN, one.self), SELF);
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    assert.deepEqual([two.leases.isUp, two.notifications], [true, ['up']]);
    detour.repair();
    await until(() => one.lost.length > 0);
    assert.deepEqual(one.lost, [{ token: TOKEN, owner: two.self }]);
    await until(() => one.leases.acquired === 1);
    assert.equal(one.notifications.length, 3);
  });

  test('one that refuses the password is asked until it takes it', async (context) => {
    const redis = await RedisServer.start(context, ['--requirepass', 'another']);
    const one = new LeaseMember(context, 1, { url: redis.url.replace('//', '//:secret@') });
    await until(() => one.notifications.length > 0);
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    const admin = await redis.admin(redis.url.replace('//', '//:another@'));
    await admin.configSet('requirepass', 'secret');
    await untilOwned(admin, TOKEN, one.self);
    await until(() => one.leases.isUp);
    assert.deepEqual(one.notifications, ['WRONGPASS', 'up']);
  });

  test('one that needs a missing password is reported', async (context) => {
    const redis = await RedisServer.start(context, ['--requirepass', 'another']);
    const one = new LeaseMember(context, 1, redis);
    await until(() => one.notifications.length > 0);
    assert.deepEqual(one.notifications, ['NOAUTH']);
  });

  test('one that is full keeps what it has, and gets the rest when there is room', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const one = await LeaseMember.start(context, 1, { url: redis.url, leaseMs: 1500 });
    await one.leases.acquire(TOKEN);
    await admin.configSet('maxmemory', '1');
    assert.deepEqual(await one.leases.acquire(tokenOf(2)), SELF);
    assert.equal(one.leases.downReason, 'OOM');
    // What is there outlives its lease.
    for (let before = await admin.pTTL(keyOf(TOKEN)), renewals = 0; renewals < 4;) {
      const leftMs = await admin.pTTL(keyOf(TOKEN));
      assert.ok(leftMs > 0);
      if (leftMs > before) renewals += 1;
      before = leftMs;
    }
    assert.equal(one.leases.acquired, 1);
    await admin.configSet('maxmemory', '0');
    await untilOwned(admin, tokenOf(2), one.self);
    await until(() => one.leases.isUp);
    assert.deepEqual(one.notifications, ['up', 'OOM', 'up']);
    assert.deepEqual(one.lost, []);
  });

  test('one that has become a replica is left, and found again', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const one = await LeaseMember.start(context, 1, redis);
    await admin.replicaOf('127.0.0.1', 1);
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    await until(() => !one.leases.isUp);
    await admin.sendCommand(['REPLICAOF', 'NO', 'ONE']);
    await untilOwned(admin, TOKEN, one.self);
    await until(() => one.leases.isUp);
    assert.deepEqual(one.notifications, ['up', 'READONLY', 'up']);
  });

  test('a relay ends all the same', async (context) => {
    const redis = await RedisServer.start(context);
    const detour = await Detour.to(context, redis.port);
    const [one, two] = [
      await LeaseMember.start(context, 1, redis),
      await LeaseMember.start(context, 2, detour),
    ];
    await Promise.all([one.leases.acquire(TOKEN), two.leases.acquire(tokenOf(2))]);
    detour.cut();
    await until(() => !two.leases.isUp);
    await two.leases.close();
    redis.freeze();
    const last = one.leases.acquire(tokenOf(3));
    await one.leases.close();
    assert.deepEqual(await last, SELF);
    assert.deepEqual([one.leases.desired, one.leases.acquired], [0, 0]);
    const connecting = new LeaseMember(context, 3, redis);
    await connecting.leases.close();
    assert.deepEqual([one.notifications, connecting.notifications], [['up'], []]);
  });
});
