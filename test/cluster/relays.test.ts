import assert from 'node:assert/strict';
import { execFile as execFileCallback } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { findProgram } from '../support/programs.ts';
import { RedisServer, withoutRedis } from '../support/redis.ts';
import { UsageReader } from '../support/relay-process.ts';
import { scratch, until } from '../support/scratch.ts';
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

describe('relays of one cluster', { skip: withoutRedis() }, () => {
  test('pair clients that come to different ones; the record and the mood are the first one\u2019s', async (context) => {
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

  test('take over the tokens of one that dies, and its forwarded clients are paired all the same', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis);
    const [dies, second, third] = [await cluster.add(), await cluster.add(), await cluster.add()];
    const token = newToken();
    await startWaitingClient(context, dies, token);
    await untilMetric(dies, 'cluster_leases', 1);
    // Same side: it waits at the owner, by way of the second relay.
    const again = await connectClient(context, second);
    await again.send(handshake(token, SIDE_A));
    await untilMetric(dies, 'connections_waiting', 2);
    dies.kill('SIGKILL');
    await untilMetric(second, 'connections_waiting', 1);
    await untilMetric(second, 'cluster_leases', 1);
    const partner = await connectClient(context, third);
    await partner.send(handshake(token, SIDE_B));
    await transfer(again, partner, 100_000);
  });

  test('pair clients of one relay while the coordinator is down, and all when it is back, empty', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis);
    const [one, other] = [await cluster.add(), await cluster.add()];
    const early = newToken();
    const a = await startWaitingClient(context, one, early);
    await redis.kill();
    await one.says(/coordinator is down/u);
    await other.says(/coordinator is down/u);
    assert.equal(await metric(one, 'cluster_up'), 0);
    assert.equal(await metric(one, 'ready'), 1);
    const local = newToken();
    const c = await startWaitingClient(context, one, local);
    const d = await connectClient(context, one);
    await d.send(handshake(local, SIDE_B));
    await transfer(c, d, 1000);
    // Two that can't find each other now.
    const torn = newToken();
    const e = await startWaitingClient(context, one, torn);
    const f = await connectClient(context, other);
    await f.send(handshake(torn, SIDE_B));
    await untilMetric(other, 'connections_waiting', 1);
    await redis.restart();
    await transfer(e, f, 1000);
    await untilMetric(one, 'cluster_up', 1);
    const b = await connectClient(context, other);
    await b.send(handshake(early, SIDE_B));
    await transfer(a, b, 1000);
  });

  test('let one of them drain: clients forwarded to it are redirected, and transfers finish', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis);
    const [leaves, stays] = [await cluster.add(), await cluster.add()];
    const [a, b] = await pairAcrossRelays(context, leaves, stays);
    await Promise.all([a.until(3), b.until(3)]);
    const token = newToken();
    await untilMetric(leaves, 'cluster_leases', 0);
    const notifications = await startWaitingClient(context, leaves, token);
    await untilMetric(leaves, 'cluster_leases', 1);
    const moves = await connectClient(context, stays);
    await moves.send(handshake(token, SIDE_A));
    await untilMetric(leaves, 'connections_waiting', 2);
    leaves.kill('SIGTERM');
    await notifications.closed;
    assert.equal(notifications.received.toString(), 'shutting down\n');
    await untilMetric(stays, 'connections_waiting', 1);
    await untilMetric(stays, 'cluster_leases', 1);
    assert.equal(moves.receivedBytes, 0);
    const partner = await connectClient(context, stays);
    await partner.send(handshake(token, SIDE_B));
    await transfer(moves, partner, 1000);
    await transfer(a, b, 500_000);
    a.end();
    b.end();
    await leaves.ended();
  });

  test('say how many transfers they cut off, those of clients that are passed on too', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis, { RELAY_DRAIN_TIMEOUT: '100ms' });
    const [one, other] = [await cluster.add(), await cluster.add()];
    const [a, b] = await pairAcrossRelays(context, one, other);
    await transfer(a, b, 1000);
    other.kill('SIGTERM');
    await other.says(/"pairs":0,"forwarding":1,"waiting":0,.*"msg":"draining"/u);
    await other.says(/"pairs":1,"msg":"drain timeout; closing remaining transfers"/u);
    await Promise.all([a.closed, b.closed, other.ended()]);
  });

  test('probe links sooner than clients: who waits at one that vanished is not to be stuck', async (context) => {
    const ss = findProgram('ss');
    if (ss === null) return context.skip('no "ss": install the Debian package iproute2');
    const redis = await RedisServer.start(context);
    for (const RELAY_CLUSTER_TLS of ['false', 'true']) {
      await using cluster = new ProcessCluster(redis, { RELAY_CLUSTER_TLS });
      const [one, other] = [await cluster.add(), await cluster.add()];
      const token = newToken();
      await startWaitingClient(context, one, token);
      await untilMetric(one, 'cluster_leases', 1);
      const again = await connectClient(context, other);
      await again.send(handshake(token, SIDE_A));
      await untilMetric(one, 'connections_waiting', 2);
      const ends = `( sport = :${one.port('cluster')} or dport = :${one.port('cluster')} )`;
      // What is on its way has another timer.
      const look = async (): Promise<string> => (await execFile(ss, ['-tnoH', ends])).stdout;
      let seen = await look();
      while (seen.includes('timer:(on,')) seen = await look();
      // Like `4.928ms`, which is seconds; from ten on it would be `29sec`.
      const probed = seen.match(/^ESTAB.*timer:\(keepalive,[0-5]\.\d+ms/gmu) ?? [];
      assert.equal(probed.length, 2, seen);
    }
  });

  test('write no token, side or address into the log or the coordinator', async (context) => {
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
