import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { Cluster } from '../../src/cluster/cluster.ts';
import type { LinkErrorCode } from '../../src/cluster/link-call.ts';
import { DataPlane } from '../../src/net/data-plane.ts';
import type { Owner } from '../../src/net/elsewhere.ts';
import type { Token } from '../../src/protocol/wire.ts';
import { freePort, listening } from '../support/listening.ts';
import { RedisServer, withoutRedis } from '../support/redis.ts';
import { until } from '../support/scratch.ts';
import { Member, tokenOf } from './claim-house.ts';
import { LOOPBACK } from './link-place.ts';

const TOKEN = tokenOf(1);

/** One run of a relay, and what it was told. */
class Run {
  readonly self: Owner;
  readonly cluster: Cluster;
  readonly lost: { readonly token: Token; readonly owner: Owner }[] = [];
  readonly failures: { readonly failure: LinkErrorCode; readonly owner: Owner }[] = [];
  addressTaken = 0;

  private constructor(url: string, address: string, leaseMs: number) {
    this.self = { id: randomUUID(), address };
    this.cluster = new Cluster({
      url,
      secret: 'the secret of the group',
      self: this.self,
      leaseMs,
      plane: DataPlane.ofOrdinaryStreams(),
      tls: null,
      networks: LOOPBACK,
      callFailed: (failure, owner) => this.failures.push({ failure, owner }),
      addressTaken: () => {
        this.addressTaken += 1;
      },
      events: {
        lost: (token, owner) => this.lost.push({ token, owner }),
        up: () => undefined,
        down: () => undefined,
        otherGroup: () => undefined,
      },
    });
  }

  static async up(context: TestContext, redis: RedisServer, address: string, leaseMs = 30_000): Promise<Run> {
    const run = new Run(redis.url, address, leaseMs);
    context.after(() => run.cluster.close());
    await until(() => run.cluster.claims.isUp);
    return run;
  }
}

describe('a relay of a group', { skip: withoutRedis() }, () => {
  test('finds tokens at another one, and loses them to it', async (context) => {
    const redis = await RedisServer.start(context);
    const one = await Run.up(context, redis, '10.0.0.1:4004', 300);
    const other = await Run.up(context, redis, '10.0.0.2:4004');
    assert.equal(await one.cluster.seek(TOKEN), null);
    assert.deepEqual(await other.cluster.seek(TOKEN), one.self);
    assert.equal(await other.cluster.takeOver(TOKEN, one.self), null);
    await until(() => one.lost.length > 0);
    assert.deepEqual(one.lost, [{ token: TOKEN, owner: other.self }]);
    assert.equal(one.addressTaken, 0);
  });

  test('takes what it claimed in an earlier run, and does not look for that at itself', async (context) => {
    const redis = await RedisServer.start(context);
    const earlier = await Run.up(context, redis, '10.0.0.1:4004');
    const other = await Run.up(context, redis, '10.0.0.2:4004');
    assert.equal(await earlier.cluster.seek(TOKEN), null);
    const now = await Run.up(context, redis, '10.0.0.1:4004');
    assert.equal(await now.cluster.seek(TOKEN), null);
    assert.equal(now.cluster.claims.held, 1);
    assert.deepEqual(await other.cluster.seek(TOKEN), now.self);
  });

  test('tells why a call has failed, unless that is because it ends', async (context) => {
    const redis = await RedisServer.start(context);
    const run = await Run.up(context, redis, '10.0.0.1:4004');
    const gone = { id: 'of-another-run', address: `127.0.0.1:${await freePort()}` };
    await assert.rejects(run.cluster.call(gone));
    assert.deepEqual(run.failures, [{ failure: 'unreachable', owner: gone }]);
    const silent = createServer();
    const port = await listening(context, silent);
    const call = run.cluster.call({ id: 'of-another-run', address: `127.0.0.1:${port}` });
    await Promise.all([assert.rejects(call), run.cluster.close()]);
    assert.equal(run.failures.length, 1);
    assert.equal(run.cluster.calls.failed.aborted, 1);
  });

  test('calls again a relay that turns it away, which has no place for a moment', async (context) => {
    const redis = await RedisServer.start(context);
    const run = await Run.up(context, redis, '10.0.0.1:4004');
    let calls = 0;
    const crowded = createServer();
    crowded.on('connection', (socket) => {
      calls += 1;
      socket.destroy();
    });
    const port = await listening(context, crowded);
    await assert.rejects(run.cluster.call({ id: 'crowded-relay', address: `127.0.0.1:${port}` }));
    assert.equal(calls, 5);
    assert.deepEqual([run.cluster.calls.made, run.cluster.calls.failed.unreachable], [1, 1]);
  });

  test('is told of one with another secret, and of none with the same', async (context) => {
    const redis = await RedisServer.start(context);
    const [one, same] = [
      await Member.up(context, 1, { url: redis.url }),
      await Member.up(context, 2, { url: redis.url }),
    ];
    const other = await Member.up(context, 3, { url: redis.url, secret: 'a secret of its own' });
    assert.deepEqual(other.told, ['other group', 'up']);
    assert.equal(other.claims.totals.otherGroups, 1);
    assert.deepEqual([...one.told, ...same.told], ['up', 'up']);
  });

  test('is told of another one that says it is found at the same address', async (context) => {
    const redis = await RedisServer.start(context);
    const one = await Run.up(context, redis, '172.17.0.2:4004', 300);
    const twin = await Run.up(context, redis, '172.17.0.2:4004', 300);
    assert.equal(await one.cluster.seek(TOKEN), null);
    assert.equal(await twin.cluster.seek(TOKEN), null);
    await until(() => one.addressTaken > 0);
    assert.deepEqual(one.lost, []);
    // Nor does it look for the client at itself.
    assert.equal(await one.cluster.takeOver(TOKEN, { id: 'somebody-else', address: '10.0.0.9:1' }), null);
  });
});
