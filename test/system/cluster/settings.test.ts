import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { freePort } from '../../support/listening.ts';
import { RedisServer, withoutRedis } from '../../support/redis.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
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

describe('cluster settings', { skip: withoutRedis() }, () => {
  test('encrypt links with RELAY_CLUSTER_TLS; a relay without it logs the difference', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis, { RELAY_CLUSTER_TLS: 'true' });
    const [one, other] = [await cluster.add(), await cluster.add()];
    const withoutTls = await cluster.add({ RELAY_CLUSTER_TLS: 'false' });
    const [a, b] = await pairAcrossRelays(context, one, other);
    await transfer(a, b, 3_000_000);
    a.end();
    await b.closed;
    const token = newToken();
    await startWaitingClient(context, one, token);
    await untilMetric(one, 'cluster_leases', 1);
    const c = await connectClient(context, withoutTls);
    await c.send(handshake(token, SIDE_B));
    await withoutTls.waitForLog(/"failure":"tls".*could not connect to another relay/u);
    assert.equal(await metric(withoutTls, 'cluster_link_failures_total{kind="tls"}'), 1);
    // The owner is alive, but it cannot be reached, so the lease is taken over.
    await untilMetric(withoutTls, 'cluster_leases', 1);
  });

  test('accept a coordinator with TLS if its CA is in NODE_EXTRA_CA_CERTS; otherwise the log says how to set it', async (context) => {
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
      await using untrusting = await RelayProcess.start({
        ...settings,
        RELAY_CLUSTER_LISTEN: 'tcp:0:interface=127.0.0.1',
        RELAY_CLUSTER_SECRET: SECRET,
      });
      await untrusting.waitForLog(
        /"code":"(?:DEPTH_ZERO|UNABLE_TO_)\w+","hint":"[^"]*set NODE_EXTRA_CA_CERTS to the path of a PEM file/u,
      );
      await using cluster = new ProcessCluster(redis, { ...settings, NODE_EXTRA_CA_CERTS: trusted });
      // Resolves when the relay is connected to the coordinator.
      await cluster.add();
    }
  });

  test('need different addresses for all relays; two relays with the same address log it', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis, { RELAY_CLUSTER_ADVERTISE: '127.0.0.1:9' });
    const [one, other] = [await cluster.add(), await cluster.add()];
    const token = newToken();
    await startWaitingClient(context, one, token);
    await startWaitingClient(context, other, token);
    await untilMetric(other, 'cluster_leases', 1);
    await redis.kill();
    await one.waitForLog(/coordinator is down/u);
    await other.waitForLog(/coordinator is down/u);
    // Both acquire the lease again when the coordinator is back, and one of them is too late.
    await redis.restart();
    const warning = /another relay of the cluster advertises the same address; set RELAY_CLUSTER_ADVERTISE/u;
    await Promise.any([one.waitForLog(warning), other.waitForLog(warning)]);
    assert.equal(await metric(one, 'cluster_link_attempts_total'), 0);
    assert.equal(await metric(other, 'cluster_link_attempts_total'), 0);
  });

  test('need no RELAY_CLUSTER_ADVERTISE: the default is an external address of the machine', async (context) => {
    const redis = await RedisServer.start(context);
    const external = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .find(({ internal, address }) => !internal && isIPv4(address));
    for (const listen of ['tcp:0', 'tcp:0:interface=0.0.0.0', String.raw`tcp:0:interface=\:\:`]) {
      await using cluster = new ProcessCluster(redis, { RELAY_CLUSTER_LISTEN: listen });
      const relay = await cluster.add();
      const [, host] = /"advertise":"(.*):\d+"/u.exec(relay.log) ?? [];
      assert.equal(host, external?.address ?? hostname(), listen);
    }
  });

  test('need the same secret for all relays; a relay with another one logs it', async (context) => {
    const redis = await RedisServer.start(context);
    await using cluster = new ProcessCluster(redis);
    const one = await cluster.add();
    assert.doesNotMatch(one.log, /a different RELAY_CLUSTER_SECRET/u);
    const other = await cluster.add({ RELAY_CLUSTER_SECRET: 'the secret of another cluster' });
    await other.waitForLog(/a different RELAY_CLUSTER_SECRET/u);
    await untilMetric(other, 'cluster_secret_mismatches_total', 1);
    assert.equal(await metric(one, 'cluster_up'), 1);
  });
});
