import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { LinkErrorCode } from '../../../src/cluster/link-client.ts';
import { LeaseRouter, PeerConcurrency } from '../../../src/cluster/router.ts';
import type { Owner } from '../../../src/cluster/router.ts';
import { parseCoordinatorUrl } from '../../../src/config/cluster-config.ts';
import type { Token } from '../../../src/protocol/messages.ts';
import { IoBackend } from '../../../src/transport/io-backend.ts';
import { freePort, listening } from '../../support/listening.ts';
import { RedisServer, withoutRedis } from '../../support/redis.ts';
import { until } from '../../support/scratch.ts';
import { LeaseMember, tokenOf } from '../../support/lease-fixture.ts';
import { KEY, LOOPBACK } from './link-fixture.ts';

const TOKEN = tokenOf(1);

/** Renewed every second, in milliseconds. A busy machine may stop the relay for two seconds before it expires. */
const SHORT_LEASE_MS = 3000;

/** The router of one run of a relay, and the events that it got. */
class RouterRun {
  readonly self: Owner;
  readonly router: LeaseRouter;
  readonly lost: { readonly token: Token; readonly owner: Owner }[] = [];
  readonly failures: { readonly failure: LinkErrorCode; readonly owner: Owner }[] = [];
  addressConflicts = 0;

  private constructor(url: string, address: string, leaseMs: number) {
    this.self = { id: randomUUID(), address };
    this.router = new LeaseRouter({
      coordinator: parseCoordinatorUrl(url),
      secret: 'the secret of the cluster',
      self: this.self,
      leaseMs,
      links: { backend: IoBackend.withStandardStreams(), key: KEY, tls: null, networks: LOOPBACK },
      onConnectFailed: (failure, owner) => this.failures.push({ failure, owner }),
      onAddressConflict: () => {
        this.addressConflicts += 1;
      },
      events: {
        onLeaseLost: (token, owner) => this.lost.push({ token, owner }),
        onUp: () => undefined,
        onDown: () => undefined,
        onSecretMismatch: () => undefined,
      },
    });
  }

  static async start(
    context: TestContext,
    redis: RedisServer,
    address: string,
    leaseMs = 30_000,
  ): Promise<RouterRun> {
    const run = new RouterRun(redis.url, address, leaseMs);
    context.after(() => run.router.close());
    await until(() => run.router.leases.isUp);
    return run;
  }
}

describe('the router of a relay', { skip: withoutRedis() }, () => {
  test('resolves the owner of a token, and loses a lease to a relay that takes it over', async (context) => {
    const redis = await RedisServer.start(context);
    const one = await RouterRun.start(context, redis, '10.0.0.1:4005', SHORT_LEASE_MS);
    const other = await RouterRun.start(context, redis, '10.0.0.2:4005');
    assert.equal(await one.router.resolveOwner(TOKEN), null);
    assert.deepEqual(await other.router.resolveOwner(TOKEN), one.self);
    assert.equal(await other.router.isOwner(TOKEN, one.self), true);
    assert.equal(await other.router.takeOver(TOKEN, one.self), null);
    assert.equal(await other.router.isOwner(TOKEN, one.self), false);
    await until(() => one.lost.length > 0);
    assert.deepEqual(one.lost, [{ token: TOKEN, owner: other.self }]);
    assert.equal(one.addressConflicts, 0);
    other.router.release(TOKEN);
    await until(() => other.router.leases.desired === 0);
    assert.equal(await one.router.isOwner(TOKEN, other.self), false);
  });

  test('takes over the leases of an earlier run at the same address, and does not connect to itself', async (context) => {
    const redis = await RedisServer.start(context);
    const earlier = await RouterRun.start(context, redis, '10.0.0.1:4005');
    const other = await RouterRun.start(context, redis, '10.0.0.2:4005');
    assert.equal(await earlier.router.resolveOwner(TOKEN), null);
    const later = await RouterRun.start(context, redis, '10.0.0.1:4005');
    assert.equal(await later.router.resolveOwner(TOKEN), null);
    assert.equal(later.router.leases.acquired, 1);
    assert.deepEqual(await other.router.resolveOwner(TOKEN), later.self);
  });

  test('reports why a connection attempt has failed, except if it was aborted by close', async (context) => {
    const redis = await RedisServer.start(context);
    const run = await RouterRun.start(context, redis, '10.0.0.1:4005');
    const unreachable = { id: 'of-another-run', address: `127.0.0.1:${await freePort()}` };
    await assert.rejects(run.router.connect(unreachable));
    assert.deepEqual(run.failures, [{ failure: 'unreachable', owner: unreachable }]);
    const silent = createServer();
    const port = await listening(context, silent);
    const connecting = run.router.connect({ id: 'of-another-run', address: `127.0.0.1:${port}` });
    await Promise.all([assert.rejects(connecting), run.router.close()]);
    assert.equal(run.failures.length, 1);
    assert.equal(run.router.linkAttempts.failed.aborted, 1);
  });

  test('retries to connect to a relay that evicts it', async (context) => {
    const redis = await RedisServer.start(context);
    const run = await RouterRun.start(context, redis, '10.0.0.1:4005');
    let connections = 0;
    const evicting = createServer();
    evicting.on('connection', (socket) => {
      connections += 1;
      socket.destroy();
    });
    const port = await listening(context, evicting);
    await assert.rejects(run.router.connect({ id: 'evicting-relay', address: `127.0.0.1:${port}` }));
    assert.equal(connections, 5);
    assert.deepEqual([run.router.linkAttempts.made, run.router.linkAttempts.failed.unreachable], [1, 1]);
  });

  for (const { what, reply, connections } of [
    // Each attempt has four retries.
    { what: 'each try a relay that evicts them', reply: '', connections: 20 * 5 },
    // Four of them wait until the first of the others has failed.
    { what: 'fail together at a server that is no relay', reply: 'HTTP/1.1 400 \n', connections: 16 },
  ]) {
    test(`makes no more than 16 connection attempts to one relay at a time, which ${what}`, async (context) => {
      const redis = await RedisServer.start(context);
      const run = await RouterRun.start(context, redis, '10.0.0.1:4005');
      let accepted = 0;
      const server = createServer();
      server.on('connection', (socket) => {
        accepted += 1;
        socket.end(reply);
      });
      const owner = { id: 'another-relay', address: `127.0.0.1:${await listening(context, server)}` };
      const attempts = Array.from({ length: 20 }, () => run.router.connect(owner));
      for (const { status } of await Promise.allSettled(attempts)) assert.equal(status, 'rejected');
      assert.equal(accepted, connections);
      assert.equal(run.failures.length, 20);
    });
  }

  test('is notified of a relay with another secret, and not of relays with the same secret', async (context) => {
    const redis = await RedisServer.start(context);
    const [one, same] = [
      await LeaseMember.start(context, 1, { url: redis.url }),
      await LeaseMember.start(context, 2, { url: redis.url }),
    ];
    const other = await LeaseMember.start(context, 3, { url: redis.url, secret: 'a secret of its own' });
    assert.deepEqual(other.notifications, ['secret mismatch', 'up']);
    assert.equal(other.leases.totals.secretMismatches, 1);
    assert.deepEqual([...one.notifications, ...same.notifications], ['up', 'up']);
  });

  test('is notified of another relay with the same address', async (context) => {
    const redis = await RedisServer.start(context);
    const one = await RouterRun.start(context, redis, '172.17.0.2:4005', SHORT_LEASE_MS);
    const twin = await RouterRun.start(context, redis, '172.17.0.2:4005', SHORT_LEASE_MS);
    assert.equal(await one.router.resolveOwner(TOKEN), null);
    assert.equal(await twin.router.resolveOwner(TOKEN), null);
    await until(() => one.addressConflicts > 0);
    assert.deepEqual(one.lost, []);
    // A takeover does not make the relay connect to itself either.
    assert.equal(await one.router.takeOver(TOKEN, { id: 'another-relay', address: '10.0.0.9:1' }), null);
  });
});

/** Connection attempts that end when the test says so. */
class ControlledConnects {
  readonly started: PromiseWithResolvers<string>[] = [];
  readonly start = (): Promise<string> => {
    const connect = Promise.withResolvers<string>();
    this.started.push(connect);
    return connect.promise;
  };
}

describe('connection attempts', () => {
  test('are limited for each relay', async () => {
    const [peers, connects] = [new PeerConcurrency(2, () => false), new ControlledConnects()];
    const results = ['one', 'one', 'one', 'one', 'two'].map((name) => peers.run(name, connects.start));
    await setImmediate();
    assert.equal(connects.started.length, 3);
    connects.started[0]?.reject(new Error('no'));
    await assert.rejects(results[0] ?? Promise.resolve());
    results.push(peers.run('one', connects.start));
    await setImmediate();
    assert.equal(connects.started.length, 4);
    connects.started[1]?.resolve('yes');
    assert.equal(await results[1], 'yes');
    await setImmediate();
    assert.equal(connects.started.length, 5);
    for (const connect of connects.started) connect.resolve('done');
    await setImmediate();
    assert.equal(connects.started.length, 6);
    connects.started[5]?.resolve('done');
    assert.deepEqual(await Promise.all(results.slice(2)), ['done', 'done', 'done', 'done']);
    const last = peers.run('one', connects.start);
    assert.equal(connects.started.length, 7);
    connects.started[6]?.resolve('last');
    assert.equal(await last, 'last');
  });

  test('that wait fail together after a fatal error, and later ones start again', async () => {
    const [peers, connects] = [new PeerConcurrency(1, () => true), new ControlledConnects()];
    const results = [1, 2, 3].map(() => peers.run('one', connects.start));
    connects.started[0]?.reject(new Error('gone'));
    for (const result of results) await assert.rejects(result, /gone/u);
    assert.equal(connects.started.length, 1);
    const again = peers.run('one', connects.start);
    connects.started[1]?.resolve('back');
    assert.equal(await again, 'back');
  });
});
