import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { makeIdentity } from '../support/certificates.ts';
import { freePort } from '../support/listening.ts';
import { RedisServer, withoutRedis } from '../support/redis.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { scratch } from '../support/scratch.ts';
import {
  ProcessCluster,
  SECRET,
  metric,
  untilMetric,
  pairAcrossRelays,
  transfer,
  connectClient,
  startWaitingClient,
} from './process-cluster.ts';

describe('the settings of a cluster', { skip: withoutRedis() }, () => {
  test('encrypt links, and relays say so where only one of two does', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis, { RELAY_CLUSTER_TLS: 'true' });
    const [one, other] = [await cluster.add(), await cluster.add()];
    const plain = await cluster.add({ RELAY_CLUSTER_TLS: 'false' });
    const [a, b] = await pairAcrossRelays(context, one, other);
    await transfer(a, b, 3_000_000);
    a.end();
    await b.closed;
    const torn = newToken();
    await startWaitingClient(context, one, torn);
    await untilMetric(one, 'cluster_leases', 1);
    const c = await connectClient(context, plain);
    await c.send(handshake(torn, SIDE_B));
    await plain.says(/"failure":"tls".*could not connect to another relay/u);
    assert.equal(await metric(plain, 'cluster_link_failures_total{kind="tls"}'), 1);
    // It is not a relay that is gone, but nobody meets at one that can't be called.
    await untilMetric(plain, 'cluster_leases', 1);
  });

  test('lead to a coordinator with TLS whose authority is in NODE_EXTRA_CA_CERTS; without it, the log names that', async (context) => {
    const authority = makeIdentity('authority');
    for (const identity of [makeIdentity('localhost'), makeIdentity('localhost', { issuer: authority })]) {
      const directory = await scratch(context);
      const [key, certificate, trusted] = ['key', 'certificate', 'trusted'].map((name) =>
        join(directory, `${name}.pem`),
      );
      assert.ok(key !== undefined && certificate !== undefined && trusted !== undefined);
      writeFileSync(key, identity.key);
      writeFileSync(certificate, identity.certificate);
      writeFileSync(trusted, identity.certificate + authority.certificate);
      const port = await freePort();
      const secured = `--tls-port ${port} --tls-auth-clients no --tls-key-file ${key}`;
      const certified = `--tls-cert-file ${certificate} --tls-ca-cert-file ${certificate}`;
      const redis = await RedisServer.start(context, `${secured} ${certified}`.split(' '));
      const settings = { RELAY_CLUSTER_URL: `rediss://localhost:${port}` };
      await using doubts = await RelayProcess.start({
        ...settings,
        RELAY_CLUSTER_LISTEN: 'tcp:0:interface=127.0.0.1',
        RELAY_CLUSTER_SECRET: SECRET,
      });
      await doubts.says(
        /"code":"(?:DEPTH_ZERO|UNABLE_TO_)\w+","hint":"[^"]*set NODE_EXTRA_CA_CERTS to the path of a PEM file/u,
      );
      await using cluster = new ProcessCluster(redis, { ...settings, NODE_EXTRA_CA_CERTS: trusted });
      // Resolves when the coordinator answers.
      await cluster.add();
    }
  });

  test('give each relay an address of its own, and two that have the same say so', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis, { RELAY_CLUSTER_ADVERTISE: '127.0.0.1:9' });
    const [one, twin] = [await cluster.add(), await cluster.add()];
    const token = newToken();
    await startWaitingClient(context, one, token);
    await startWaitingClient(context, twin, token);
    await untilMetric(twin, 'cluster_leases', 1);
    await redis.kill();
    await one.says(/coordinator is down/u);
    await twin.says(/coordinator is down/u);
    // Both claim anew when it is back, and one of them is second.
    await redis.restart();
    const taken = /another relay of the cluster advertises the same address; set RELAY_CLUSTER_ADVERTISE/u;
    await Promise.any([one.says(taken), twin.says(taken)]);
    assert.equal(await metric(one, 'cluster_link_attempts_total'), 0);
    assert.equal(await metric(twin, 'cluster_link_attempts_total'), 0);
  });

  test('need not have an address: it is one of this machine that others reach', async (context) => {
    const redis = await RedisServer.start(context);
    const outer = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .find(({ internal, address }) => !internal && isIPv4(address));
    for (const listen of ['tcp:0', 'tcp:0:interface=0.0.0.0', String.raw`tcp:0:interface=\:\:`]) {
      await using cluster = new ProcessCluster(redis, { RELAY_CLUSTER_LISTEN: listen });
      const relay = await cluster.add();
      const [, host] = /"advertise":"(.*):\d+"/u.exec(relay.log) ?? [];
      assert.equal(host, outer?.address ?? hostname(), listen);
    }
  });

  test('are one secret for all, and those with another one are told apart in the log', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis);
    const one = await cluster.add();
    assert.doesNotMatch(one.log, /a different RELAY_CLUSTER_SECRET/u);
    const other = await cluster.add({ RELAY_CLUSTER_SECRET: 'the secret of another group' });
    await other.says(/a different RELAY_CLUSTER_SECRET/u);
    await untilMetric(other, 'cluster_secret_mismatches_total', 1);
    assert.equal(await metric(one, 'cluster_up'), 1);
  });
});
