import assert from 'node:assert/strict';
import { execFile as execFileCallback } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { findProgram } from '../../support/programs.ts';
import { RedisServer, withoutRedis } from '../../support/redis.ts';
import { UsageReader } from '../../support/relay-process.ts';
import { scratch, until } from '../../support/scratch.ts';
import {
  ProcessCluster,
  SECRET,
  metric,
  untilMetric,
  leaseKeysOf,
  pairAcrossRelays,
  transfer,
  connectClient,
  startWaitingClient,
} from './process-cluster.ts';

const execFile = promisify(execFileCallback);

describe('relays of a cluster', { skip: withoutRedis() }, () => {
  test('pair clients of different relays; the owner writes the record with the mood', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis);
    const path = join(await scratch(context), 'usage.sqlite');
    const [one, other] = [await cluster.add({ RELAY_USAGE_DB: path }), await cluster.add()];
    const token = newToken();
    const a = await startWaitingClient(context, one, token);
    await untilMetric(one, 'cluster_leases', 1);
    const b = await connectClient(context, other, 'websocket');
    await b.send(handshake(token, SIDE_B));
    await transfer(a, b, 3_000_000);
    await untilMetric(one, 'cluster_leases', 0);
    assert.equal(await metric(one, 'connections_paired'), 2);
    assert.equal(await metric(other, 'connections_forwarding'), 1);
    assert.equal(await metric(other, 'cluster_link_attempts_total'), 1);
    assert.equal(await metric(one, 'relayed_bytes_total{from="link",to="tcp"}'), 3_000_000);
    assert.equal(await metric(other, 'relayed_bytes_total{from="websocket",to="link"}'), 3_000_000);
    a.end();
    assert.deepEqual(await b.closed, { reset: false, code: 1000 });
    await untilMetric(other, 'connections_forwarded_total{transport="websocket"}', 1);
    using reader = new UsageReader(path);
    await until(() => reader.rows().length === 1);
    const [row] = reader.rows();
    assert.deepEqual([row?.total_bytes, row?.result], [6_000_000, 'happy']);
  });

  test('take over the leases of a relay that dies, and clients forwarded to it are still paired', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis);
    const [owner, second, third] = [await cluster.add(), await cluster.add(), await cluster.add()];
    const token = newToken();
    await startWaitingClient(context, owner, token);
    await untilMetric(owner, 'cluster_leases', 1);
    // Same side: the client waits at the owner, forwarded by the second relay.
    const forwarded = await connectClient(context, second);
    await forwarded.send(handshake(token, SIDE_A));
    await untilMetric(owner, 'connections_waiting', 2);
    owner.kill('SIGKILL');
    await untilMetric(second, 'connections_waiting', 1);
    await untilMetric(second, 'cluster_leases', 1);
    const partner = await connectClient(context, third);
    await partner.send(handshake(token, SIDE_B));
    await transfer(forwarded, partner, 100_000);
  });

  test('pair clients of one relay while the coordinator is down, and all clients when it restarts empty', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis);
    const [one, other] = [await cluster.add(), await cluster.add()];
    const earlyToken = newToken();
    const a = await startWaitingClient(context, one, earlyToken);
    await redis.kill();
    await one.waitForLog(/coordinator is down/u);
    await other.waitForLog(/coordinator is down/u);
    assert.equal(await metric(one, 'cluster_up'), 0);
    assert.equal(await metric(one, 'ready'), 1);
    const localToken = newToken();
    const c = await startWaitingClient(context, one, localToken);
    const d = await connectClient(context, one);
    await d.send(handshake(localToken, SIDE_B));
    await transfer(c, d, 1000);
    // Clients of two relays, which cannot be paired at the moment.
    const splitToken = newToken();
    const e = await startWaitingClient(context, one, splitToken);
    const f = await connectClient(context, other);
    await f.send(handshake(splitToken, SIDE_B));
    await untilMetric(other, 'connections_waiting', 1);
    await redis.restart();
    await transfer(e, f, 1000);
    await untilMetric(one, 'cluster_up', 1);
    const b = await connectClient(context, other);
    await b.send(handshake(earlyToken, SIDE_B));
    await transfer(a, b, 1000);
  });

  test('redirect clients that were forwarded to a relay that drains, and transfers finish', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis);
    const [draining, other] = [await cluster.add(), await cluster.add()];
    const [a, b] = await pairAcrossRelays(context, draining, other);
    await Promise.all([a.until(3), b.until(3)]);
    const token = newToken();
    await untilMetric(draining, 'cluster_leases', 0);
    const waiter = await startWaitingClient(context, draining, token);
    await untilMetric(draining, 'cluster_leases', 1);
    const forwarded = await connectClient(context, other);
    await forwarded.send(handshake(token, SIDE_A));
    await untilMetric(draining, 'connections_waiting', 2);
    draining.kill('SIGTERM');
    await waiter.closed;
    assert.equal(waiter.received.toString(), 'shutting down\n');
    await untilMetric(other, 'connections_waiting', 1);
    await untilMetric(other, 'cluster_leases', 1);
    assert.equal(forwarded.receivedBytes, 0);
    const partner = await connectClient(context, other);
    await partner.send(handshake(token, SIDE_B));
    await transfer(forwarded, partner, 1000);
    await transfer(a, b, 500_000);
    a.end();
    b.end();
    await draining.ended();
  });

  test('log how many transfers a drain timeout closes, including those of forwarded clients', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis, { RELAY_DRAIN_TIMEOUT: '100ms' });
    const [one, other] = [await cluster.add(), await cluster.add()];
    const [a, b] = await pairAcrossRelays(context, one, other);
    await transfer(a, b, 1000);
    other.kill('SIGTERM');
    await other.waitForLog(/"pairs":0,"forwarding":1,"waiting":0,.*"msg":"draining"/u);
    await other.waitForLog(/"pairs":1,"msg":"drain timeout; closing remaining transfers"/u);
    await Promise.all([a.closed, b.closed, other.ended()]);
  });

  test('use a short TCP keepalive for links of waiting clients, to detect an owner that disappears', async (context) => {
    const ss = findProgram('ss');
    if (ss === null) return context.skip('no "ss": install the Debian package iproute2');
    const redis = await RedisServer.start(context);
    for (const RELAY_CLUSTER_TLS of ['false', 'true']) {
      await using cluster = new ProcessCluster(redis, { RELAY_CLUSTER_TLS });
      const [one, other] = [await cluster.add(), await cluster.add()];
      const token = newToken();
      await startWaitingClient(context, one, token);
      await untilMetric(one, 'cluster_leases', 1);
      const forwarded = await connectClient(context, other);
      await forwarded.send(handshake(token, SIDE_A));
      await untilMetric(one, 'connections_waiting', 2);
      const filter = `( sport = :${one.port('cluster')} or dport = :${one.port('cluster')} )`;
      // Unacknowledged bytes have another timer.
      const sockets = async (): Promise<string> => (await execFile(ss, ['-tnoH', filter])).stdout;
      let output = await sockets();
      while (output.includes('timer:(on,')) output = await sockets();
      // `ss` prints 4.928 seconds as `4.928ms`; ten seconds and more would be `29sec`.
      const keepalives = output.match(/^ESTAB.*timer:\(keepalive,[0-5]\.\d+ms/gmu) ?? [];
      assert.equal(keepalives.length, 2, output);
    }
  });

  test('write no token, side or secret into the log or the coordinator', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis, { RELAY_LOG_LEVEL: 'trace' });
    const [one, other] = [await cluster.add(), await cluster.add()];
    const token = newToken();
    const a = await startWaitingClient(context, one, token);
    await untilMetric(one, 'cluster_leases', 1);
    const keys = await leaseKeysOf(redis);
    assert.equal(keys.length, 1);
    assert.doesNotMatch(keys.join(), new RegExp(token.slice(0, 16), 'u'));
    const b = await connectClient(context, other);
    await b.send(handshake(token, SIDE_B));
    await transfer(a, b, 10);
    a.end();
    await b.closed;
    for (const relay of cluster.relays) {
      assert.doesNotMatch(relay.log, new RegExp(`${token.slice(0, 16)}|${SIDE_A}|${SIDE_B}|${SECRET}`, 'u'));
      await relay.stop();
    }
    assert.deepEqual(await leaseKeysOf(redis), []);
  });
});
