import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { RedisProxy, RedisServer, withoutRedis } from '../../support/redis.ts';
import { until } from '../../support/scratch.ts';
import {
  LeaseMember,
  SELF,
  acquireMany,
  countLeases,
  keyOf,
  ownerOf,
  tokenOf,
  untilLeases,
  untilOwned,
} from '../../support/lease-fixture.ts';

const TOKEN = tokenOf(1);

describe('token leases while the coordinator fails', { skip: withoutRedis() }, () => {
  test('the relay is the provisional owner while the coordinator is down, and acquires its leases later', async (context) => {
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

  test('a coordinator that restarts empty gets all leases again, and each change is reported once', async (context) => {
    const redis = await RedisServer.start(context);
    const one = await LeaseMember.start(context, 1, redis);
    const tokens = await acquireMany(one, 1200);
    await redis.kill();
    await until(() => !one.leases.isUp);
    // Leases that are released or acquired while the coordinator is down.
    for (const token of tokens.slice(0, 100)) one.leases.release(token);
    assert.deepEqual(await one.leases.acquire(tokenOf(5000)), SELF);
    await until(() => one.leases.desired === 1101);
    await redis.restart();
    const admin = await redis.admin();
    await untilLeases(admin, 1101);
    assert.equal(await countLeases(admin), 1101);
    assert.equal(await ownerOf(admin, tokenOf(99)), null);
    await until(() => one.leases.acquired === 1101);
    assert.equal(one.notifications.length, 3);
    assert.deepEqual([one.notifications[0], one.notifications[2]], ['up', 'up']);
  });

  test('two provisional owners of a token: when the coordinator is back, one loses the lease and gets the owner', async (context) => {
    const redis = await RedisServer.start(context);
    const members = await LeaseMember.startTwo(context, redis);
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
        ({ leases, notifications }) => notifications.length >= 3 && leases.desired === leases.acquired,
      ),
    );
    const [one, two] = members;
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

  test('clients do not wait for a coordinator that hangs, but its late replies count', async (context) => {
    const redis = await RedisServer.start(context);
    const [one, two] = await LeaseMember.startTwo(context, redis);
    await two.leases.acquire(TOKEN);
    redis.freeze();
    // The first request takes half a second; after that the coordinator is known to be down.
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

  test('the connection to a coordinator that keeps hanging is closed, and released tokens use no memory', async (context) => {
    const redis = await RedisServer.start(context);
    const one = await LeaseMember.start(context, 1, redis);
    redis.freeze();
    // More than may be in flight.
    const results = Array.from({ length: 15_000 }, (_, at) => one.leases.acquire(tokenOf(at)));
    for (let at = 1; at < 15_000; at += 1) one.leases.release(tokenOf(at));
    for (const result of await Promise.all(results)) assert.deepEqual(result, SELF);
    assert.ok(one.leases.desired <= 10_000, String(one.leases.desired));
    // Commands in flight are kept until the connection is closed, and no longer.
    await until(() => one.leases.desired === 1);
    assert.deepEqual(one.notifications, ['up', 'ETIMEDOUT']);
    redis.thaw();
    await untilOwned(await redis.admin(), tokenOf(0), one.self);
  });

  test('a coordinator that allows no login within five seconds is retried', async (context) => {
    const redis = await RedisServer.start(context);
    redis.freeze();
    const one = new LeaseMember(context, 1, redis);
    await until(() => one.notifications.length > 0);
    redis.thaw();
    await until(() => one.leases.isUp);
    assert.deepEqual(one.notifications, ['ETIMEDOUT', 'up']);
    // The connection that hung is closed.
    const admin = await redis.admin();
    const list = await admin.clientList();
    assert.equal(list.filter(({ name }) => name === 'transit-relay').length, 1);
  });

  test('a slow coordinator still gets commands, and clients do not wait for it', async (context) => {
    const redis = await RedisServer.start(context);
    const proxy = await RedisProxy.to(context, redis.port);
    const [one, two] = await LeaseMember.startTwo(context, proxy, redis);
    await two.leases.acquire(TOKEN);
    proxy.delayMs = 350;
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    await until(() => one.lost.length === 1);
    // The coordinator is known to be slow.
    assert.deepEqual(await one.leases.acquire(tokenOf(2)), SELF);
    assert.deepEqual([one.leases.isUp, one.leases.acquired], [false, 0]);
    await until(() => one.leases.acquired === 1);
    assert.equal(one.leases.isUp, false);
    assert.deepEqual(await ownerOf(await redis.admin(), tokenOf(2)), one.self);
    proxy.delayMs = 0;
    await until(() => one.leases.isUp);
    assert.deepEqual(one.notifications, ['up', 'ETIMEDOUT', 'up']);
  });

  test('a relay that was cut off from the coordinator gets its lost leases reported when it is reconnected', async (context) => {
    const redis = await RedisServer.start(context);
    const proxy = await RedisProxy.to(context, redis.port);
    const [one, two] = await LeaseMember.startTwo(context, proxy, redis);
    await one.leases.acquire(TOKEN);
    await one.leases.acquire(tokenOf(2));
    proxy.cut();
    await until(() => !one.leases.isUp);
    assert.deepEqual(await two.leases.takeOver(TOKEN, one.self), SELF);
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    assert.deepEqual([two.leases.isUp, two.notifications], [true, ['up']]);
    proxy.repair();
    await until(() => one.lost.length > 0);
    assert.deepEqual(one.lost, [{ token: TOKEN, owner: two.self }]);
    await until(() => one.leases.acquired === 1);
    assert.equal(one.notifications.length, 3);
  });

  test('a coordinator that rejects the password is retried until it accepts it', async (context) => {
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

  test('a coordinator that requires a password is reported if the URL has none', async (context) => {
    const redis = await RedisServer.start(context, ['--requirepass', 'another']);
    const one = new LeaseMember(context, 1, redis);
    await until(() => one.notifications.length > 0);
    assert.deepEqual(one.notifications, ['NOAUTH']);
  });

  test('a full coordinator keeps existing leases, and gets the others when it has memory again', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const one = await LeaseMember.start(context, 1, { url: redis.url, leaseMs: 1500 });
    await one.leases.acquire(TOKEN);
    await admin.configSet('maxmemory', '1');
    assert.deepEqual(await one.leases.acquire(tokenOf(2)), SELF);
    assert.deepEqual([one.leases.isUp, one.notifications.at(-1)], [false, 'OOM']);
    // Existing leases are still renewed.
    for (let before = await admin.pTTL(keyOf(TOKEN)), renewals = 0; renewals < 4;) {
      const leftMs = await admin.pTTL(keyOf(TOKEN));
      assert.ok(leftMs > 0);
      if (leftMs > before) renewals += 1;
      before = leftMs;
      await sleep(20);
    }
    assert.equal(one.leases.acquired, 1);
    await admin.configSet('maxmemory', '0');
    await untilOwned(admin, tokenOf(2), one.self);
    await until(() => one.leases.isUp);
    assert.deepEqual(one.notifications, ['up', 'OOM', 'up']);
    assert.deepEqual(one.lost, []);
  });

  test('a coordinator that has become a replica counts as down until it is a master again', async (context) => {
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

  test('close resolves even if the coordinator is unreachable or hangs', async (context) => {
    const redis = await RedisServer.start(context);
    const proxy = await RedisProxy.to(context, redis.port);
    const [one, two] = await LeaseMember.startTwo(context, redis, proxy);
    await Promise.all([one.leases.acquire(TOKEN), two.leases.acquire(tokenOf(2))]);
    proxy.cut();
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
