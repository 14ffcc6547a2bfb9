import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { encodeOwner } from '../../../src/cluster/lease-store.ts';
import { NODE_RUNTIME } from '../../../src/cluster/runtime.ts';
import { RenewalLoop } from '../../../src/cluster/token-leases.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { Dice } from '../../support/dice.ts';
import { freePort } from '../../support/listening.ts';
import { RedisServer, withoutRedis } from '../../support/redis.ts';
import { scratch, until } from '../../support/scratch.ts';
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

describe('token leases', { skip: withoutRedis() }, () => {
  test('belong to the first relay until it releases them', async (context) => {
    const redis = await RedisServer.start(context);
    const [one, two] = await LeaseMember.startTwo(context, redis);
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    assert.deepEqual(await two.leases.acquire(TOKEN), one.self);
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    assert.deepEqual([one.leases.acquired, two.leases.acquired], [1, 0]);
    assert.deepEqual([one.leases.desired, two.leases.desired], [1, 0]);

    // A relay cannot release a lease of another relay.
    two.leases.release(TOKEN);
    assert.deepEqual(await two.leases.acquire(TOKEN), one.self);
    one.leases.release(TOKEN);
    await until(() => one.leases.desired === 0);
    assert.equal(one.leases.acquired, 0);
    assert.deepEqual(await two.leases.acquire(TOKEN), SELF);
    assert.deepEqual([one.lost, two.lost], [[], []]);
  });

  test('take one command for any number of simultaneous requests for a token, and one for the release', async (context) => {
    const redis = await RedisServer.start(context);
    const one = await LeaseMember.start(context, 1, redis);
    const before = one.leases.totals.commands;
    const all = await Promise.all(Array.from({ length: 100 }, () => one.leases.acquire(TOKEN)));
    assert.deepEqual(
      all,
      Array.from({ length: 100 }, () => SELF),
    );
    assert.equal(one.leases.totals.commands, before + 1);
    one.leases.release(TOKEN);
    await until(() => one.leases.desired === 0);
    assert.equal(one.leases.totals.commands, before + 2);
  });

  test('have an expiry time in the coordinator', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const one = await LeaseMember.start(context, 1, { url: redis.url, leaseMs: 20_000 });
    await one.leases.acquire(TOKEN);
    const leftMs = await admin.pTTL(keyOf(TOKEN));
    assert.ok(leftMs > 10_000 && leftMs <= 20_000, String(leftMs));
  });

  test('that the relay already has in the coordinator are extended to the full lease time', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const one = await LeaseMember.start(context, 1, redis);
    await admin.set(keyOf(TOKEN), encodeOwner(one.self), { PX: 5000 });
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    assert.ok((await admin.pTTL(keyOf(TOKEN))) > 5000);
    assert.equal(one.leases.totals.takenOver, 0);
  });

  test('have exactly one owner after any order of acquire and release', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const members = await LeaseMember.startTwo(context, redis);
    const random = new Dice(7);
    for (let round = 0; round < 300; round += 1) {
      const token = tokenOf(round % 5);
      const results: Promise<unknown>[] = [];
      for (let step = 0; step < 6; step += 1) {
        const member = members[random.between(0, 1)];
        if (random.happens(0.5)) member?.leases.release(token);
        else if (member !== undefined) results.push(member.leases.acquire(token));
        if (random.happens(0.25)) await results[0];
      }
      await Promise.all(results);
      const leases = await Promise.all(members.map((member) => member.leases.acquire(token)));
      // One relay has the lease, and the other one knows the owner.
      assert.deepEqual(leases.map((owner) => (owner === SELF ? 'self' : 'other')).toSorted(), [
        'other',
        'self',
      ]);
      const owner = members[leases.indexOf(SELF)];
      assert.deepEqual(await ownerOf(admin, token), owner?.self);
      if (random.happens(0.5)) owner?.leases.release(token);
    }
    for (const { leases } of members) for (let at = 0; at < 5; at += 1) leases.release(tokenOf(at));
    await until(() => members.every(({ leases }) => leases.desired === 0 && leases.acquired === 0));
    assert.equal(await countLeases(admin), 0);
    assert.deepEqual(
      members.map(({ lost }) => lost),
      [[], []],
    );
  });

  test('of an earlier process go to the process that has its address now', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const earlier = await LeaseMember.start(context, 1, redis);
    await earlier.leases.acquire(TOKEN);
    const later = await LeaseMember.start(context, 1, redis);
    assert.deepEqual(await later.leases.acquire(TOKEN), SELF);
    assert.deepEqual(await ownerOf(admin, TOKEN), later.self);
    assert.equal(later.leases.totals.takenOver, 1);
    // In this test, the earlier process still runs. Its lease no longer exists, so its release does nothing.
    earlier.leases.release(TOKEN);
    await until(() => earlier.leases.desired === 0);
    assert.deepEqual(await ownerOf(admin, TOKEN), later.self);
  });

  test('of an owner that cannot be reached are taken over by exactly one relay', async (context) => {
    const redis = await RedisServer.start(context);
    const owner = await LeaseMember.start(context, 1, redis);
    const others = [await LeaseMember.start(context, 2, redis), await LeaseMember.start(context, 3, redis)];
    await owner.leases.acquire(TOKEN);
    for (const other of others) assert.deepEqual(await other.leases.acquire(TOKEN), owner.self);
    const results = await Promise.all(others.map(({ leases }) => leases.takeOver(TOKEN, owner.self)));
    const winner = others[results.indexOf(SELF)];
    assert.ok(winner !== undefined);
    assert.deepEqual(
      results.toSorted((a, b) => Number(a === SELF) - Number(b === SELF)),
      [winner.self, SELF],
    );
    assert.deepEqual([winner.leases.totals.takenOver, winner.leases.acquired], [1, 1]);
    // A later takeover from the same owner gets the new owner.
    assert.deepEqual(
      await (await LeaseMember.start(context, 4, redis)).leases.takeOver(TOKEN, owner.self),
      winner.self,
    );
  });

  test('that no longer exist when they are taken over are acquired', async (context) => {
    const redis = await RedisServer.start(context);
    const [one, two] = await LeaseMember.startTwo(context, redis);
    assert.deepEqual(await one.leases.takeOver(TOKEN, two.self), SELF);
    assert.deepEqual(await two.leases.acquire(TOKEN), one.self);
  });

  test('are renewed before they expire, even after the coordinator has lost all scripts', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const one = await LeaseMember.start(context, 1, { url: redis.url, leaseMs: 1500 });
    await one.leases.acquire(TOKEN);
    await admin.scriptFlush();
    for (let leftMs = await admin.pTTL(keyOf(TOKEN)), renewals = 0; renewals < 4;) {
      await sleep(20);
      const before = leftMs;
      leftMs = await admin.pTTL(keyOf(TOKEN));
      if (leftMs > before) renewals += 1;
      assert.deepEqual(await ownerOf(admin, TOKEN), one.self);
    }
    assert.deepEqual(one.lost, []);
  });

  test('that are missing in the coordinator are acquired again by the next renewal', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const one = await LeaseMember.start(context, 1, { url: redis.url, leaseMs: 900 });
    await one.leases.acquire(TOKEN);
    await admin.flushAll();
    await untilOwned(admin, TOKEN, one.self);
  });

  test('that were taken over are reported as lost once, and not acquired again', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const one = await LeaseMember.start(context, 1, { url: redis.url, leaseMs: 900 });
    const two = await LeaseMember.start(context, 2, redis);
    await one.leases.acquire(TOKEN);
    await one.leases.acquire(tokenOf(2));
    assert.deepEqual(await two.leases.takeOver(TOKEN, one.self), SELF);
    await until(() => one.lost.length > 0);
    assert.deepEqual([one.leases.desired, one.leases.acquired], [1, 1]);
    two.leases.release(TOKEN);
    await until(() => two.leases.desired === 0);
    // Two renewals later it still has no owner.
    await admin.set('a clock', '1', { PX: 700 });
    while ((await admin.exists('a clock')) === 1) {
      assert.equal(await ownerOf(admin, TOKEN), null);
      await sleep(5);
    }
    assert.deepEqual(one.lost, [{ token: TOKEN, owner: two.self }]);
    assert.equal(one.leases.totals.lost, 1);
  });

  test('are renewed in batches of hundreds', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const one = await LeaseMember.start(context, 1, redis);
    await acquireMany(one, 2500);
    await admin.flushAll();
    const before = one.leases.totals.commands;
    // A relay renews all leases as soon as it is reconnected.
    await admin.sendCommand(['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes']);
    await untilLeases(admin, 2500);
    assert.ok(one.notifications.length >= 3, one.notifications.join());
    // Five renewals, three scripts, and a few health checks.
    assert.ok(one.leases.totals.commands - before < 16, String(one.leases.totals.commands - before));
  });

  test('with unreadable values are left unchanged, and this relay is the provisional owner', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const one = await LeaseMember.start(context, 1, { url: redis.url, leaseMs: 300 });
    await admin.set(keyOf(TOKEN), '2 of-a-later-version');
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    assert.deepEqual([one.leases.acquired, one.leases.desired], [0, 1]);
    await until(() => one.leases.totals.unreadable > 1);
    assert.equal(await admin.get(keyOf(TOKEN)), '2 of-a-later-version');
    await admin.del(keyOf(TOKEN));
    await untilOwned(admin, TOKEN, one.self);
    await until(() => one.leases.acquired === 1);
    assert.deepEqual(one.notifications, ['up']);
  });

  test('reveal no part of a token to the coordinator', async (context) => {
    const redis = await RedisServer.start(context);
    const monitor = await redis.admin();
    const seen: string[] = [];
    await monitor.monitor((line) => seen.push(line));
    const one = await LeaseMember.start(context, 1, { url: redis.url, leaseMs: 300 });
    await one.leases.acquire(TOKEN);
    await one.leases.takeOver(tokenOf(2), { id: 'another-relay', address: '10.0.0.9:4005' });
    await until(() => seen.filter((line) => line.includes('EVALSHA')).length >= 3);
    one.leases.release(TOKEN);
    await one.leases.close();
    assert.ok(seen.some((line) => line.includes(keyOf(TOKEN))));
    for (const line of seen) assert.doesNotMatch(line, /0{20}/u);
  });

  test('are all released on close; nothing is acquired after that', async (context) => {
    const redis = await RedisServer.start(context);
    const admin = await redis.admin();
    const one = await LeaseMember.start(context, 1, redis);
    await acquireMany(one, 1500);
    // One acquire is in flight.
    const last = one.leases.acquire(tokenOf(1500));
    assert.ok((await countLeases(admin)) >= 1500);
    await one.leases.close();
    await last;
    assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
    assert.equal(await countLeases(admin), 0);
    assert.deepEqual([one.leases.acquired, one.leases.desired, one.leases.isUp], [0, 0, false]);
    assert.deepEqual(one.notifications, ['up']);
  });
});

describe('the coordinator’s URL', () => {
  test(
    'may contain a user, a password and a database; the user needs few permissions',
    { skip: withoutRedis() },
    async (context) => {
      const redis = await RedisServer.start(context);
      const admin = await redis.admin();
      const rules = [
        'on',
        '>pass:word',
        '~transit-relay:*',
        '-@all',
        '+@connection',
        '+script|load',
        '+evalsha',
        '+set',
        '+get',
        '+del',
        '+pexpire',
      ];
      await admin.aclSetUser('relay', rules);
      const url = `redis://relay:pass%3Aword@127.0.0.1:${redis.port}/3`;
      const one = await LeaseMember.start(context, 1, { url, leaseMs: 300 });
      assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
      assert.equal(await ownerOf(admin, TOKEN), null);
      const admin3 = await redis.admin(`${redis.url}/3`);
      await admin3.flushDb();
      await untilOwned(admin3, TOKEN, one.self);
      one.leases.release(TOKEN);
      await until(() => one.leases.desired === 0);
      assert.equal(await ownerOf(admin3, TOKEN), null);
      assert.deepEqual(one.notifications, ['up']);
    },
  );

  test(
    'may select TLS; the certificate must be trusted by Node',
    { skip: withoutRedis() },
    async (context) => {
      const identity = makeIdentity('localhost');
      const directory = await scratch(context);
      const [key, certificate] = [join(directory, 'key.pem'), join(directory, 'certificate.pem')];
      await Promise.all([writeFile(key, identity.key), writeFile(certificate, identity.certificate)]);
      const port = await freePort();
      const secured = `--tls-port ${port} --tls-auth-clients no --tls-key-file ${key}`;
      const certified = `--tls-cert-file ${certificate} --tls-ca-cert-file ${certificate}`;
      await RedisServer.start(context, `${secured} ${certified}`.split(' '));
      const one = new LeaseMember(context, 1, { url: `rediss://localhost:${port}` });
      await until(() => one.notifications.length > 0);
      const trusted = getCACertificates();
      context.after(() => setDefaultCACertificates(trusted));
      setDefaultCACertificates([...trusted, identity.certificate]);
      await until(() => one.leases.isUp);
      assert.deepEqual(await one.leases.acquire(TOKEN), SELF);
      assert.equal(one.leases.acquired, 1);
      assert.deepEqual(one.notifications, ['DEPTH_ZERO_SELF_SIGNED_CERT', 'up']);
    },
  );
});

/** Runs the callbacks of promises that are resolved. */
async function flushMicrotasks(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe('renewals', () => {
  test('start within the interval, however long one takes', async (context) => {
    const { timers } = context.mock;
    timers.enable({ apis: ['setTimeout', 'Date'] });
    const startTimes: number[] = [];
    const loop = new RenewalLoop(
      10_000,
      () => {
        startTimes.push(Date.now());
        return new Promise((resolve) => setTimeout(resolve, 7000));
      },
      { ...NODE_RUNTIME, now: () => Date.now() },
    );
    for (let tick = 0; tick < 600; tick += 1) {
      timers.tick(100);
      await flushMicrotasks();
    }
    assert.ok(startTimes.length >= 6, `${startTimes.length} renewals in a minute`);
    for (const [index, at] of startTimes.entries()) {
      const before = startTimes[index - 1] ?? 0;
      assert.ok(at - before >= 8000 && at - before <= 10_200, `${at - before} ms between two renewals`);
    }
    const closed = loop.close();
    timers.tick(7000);
    await closed;
  });

  test('that take longer than the interval follow each other immediately', async (context) => {
    const { timers } = context.mock;
    timers.enable({ apis: ['setTimeout', 'Date'] });
    let count = 0;
    const loop = new RenewalLoop(
      1000,
      () => {
        count += 1;
        return new Promise((resolve) => setTimeout(resolve, 5000));
      },
      { ...NODE_RUNTIME, now: () => Date.now() },
    );
    for (let tick = 0; tick < 220; tick += 1) {
      timers.tick(100);
      await flushMicrotasks();
    }
    assert.ok(count >= 4, `${count} renewals`);
    const closed = loop.close();
    timers.tick(5000);
    await closed;
  });
});
