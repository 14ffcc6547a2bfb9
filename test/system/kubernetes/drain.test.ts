import { equal, match, rejects } from 'node:assert/strict';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { pairAt } from '../../support/docker-clients.ts';
import { LISTENING, rowsIn, withoutDocker } from '../../support/docker.ts';
import { buildImage } from '../../support/docker-images.ts';
import { scratch } from '../../support/scratch.ts';
import { TestClient } from '../../support/test-client.ts';
import { OVERLAYS, buildOurs, buildOwn, withoutKubectl } from './kustomize.ts';
import { Pod } from './pod.ts';
import { GRACE_MARGIN_SECONDS } from './review-settings.ts';
import { relayConfig } from './settings.ts';

const needsRoot =
  process.getuid?.() === 0 ? false : 'needs root, to change the owner of volumes: run it with sudo';

const SHUTTING_DOWN = 'shutting down\n';

/**
 * The line is logged every five seconds. By the second time, closed clients are gone, and only running
 * transfers are left.
 */
const STILL_WAITING = /(?:"msg":"waiting for transfers to finish"[^]*?){2}/u;

describe('a deleted pod', { skip: withoutKubectl || withoutDocker || needsRoot, concurrency: true }, () => {
  let image = '';
  before(async () => {
    image = await buildImage();
  });

  for (const name of OVERLAYS) {
    test(`lets transfers finish, and rejects other clients: ${name}`, async (t) => {
      const manifests = await buildOurs(name);
      const directory = await scratch(t);
      await using pod = await Pod.create(manifests, { image, directory });
      const relay = await pod.start('relay');
      await relay.waitForLog(LISTENING);
      const ports = { tcpPort: await pod.port('raw'), websocketPort: await pod.port('websocket') };
      const addresses = { ...ports, unixPath: '' };
      const pair = await pairAt(ports, ['tcp', 'websocket']);
      const [waiting, paired] = [
        await TestClient.connect('tcp', addresses),
        await TestClient.connect('tcp', addresses),
      ];
      await waiting.send(handshake(newToken(), SIDE_A));
      const token = newToken();
      await paired.send(handshake(token, SIDE_A));
      const countWaiting = async (): Promise<number> => {
        const status: unknown = await (await pod.ask('status', '/status.json')).json();
        return Object.assign({ waiting: 0 }, status).waiting;
      };
      while ((await countWaiting()) < 2);

      // The kubelet sends SIGTERM, and SIGKILL after the grace period.
      const stopped = relay.stop(manifests.pod.at('terminationGracePeriodSeconds').number ?? 30);
      // Awaited below. Until then, an earlier failure must be reported first.
      stopped.catch(() => undefined);
      await relay.waitForLog(/"pairs":1,.*"waiting":2,.*"msg":"draining"/u);
      equal((await pod.ask('status', '/readyz')).status, 503);
      equal((await pod.ask('status', '/livez')).status, 200);
      // During the delay, partners of waiting clients are accepted and others rejected.
      const partner = await TestClient.connect('tcp', addresses);
      await partner.send(handshake(token, SIDE_B));
      equal(String(await partner.until(3)), 'ok\n');
      const late = await TestClient.connect('tcp', addresses);
      await late.send(handshake(newToken(), SIDE_A));
      equal(String(await late.until(SHUTTING_DOWN.length)), SHUTTING_DOWN);
      // Then waiting clients get a reply, and no client can connect any more.
      equal(String(await waiting.until(SHUTTING_DOWN.length)), SHUTTING_DOWN);
      await rejects(relay.exec('node', '--eval', "require('net').connect(4001, '127.0.0.1')"));
      equal((await pod.ask('status', '/readyz')).status, 503);
      equal((await pod.ask('status', '/livez')).status, 200);

      // Both transfers continue, however long they take, and the relay ends with them.
      await relay.waitForLog(STILL_WAITING);
      await pair.exchange(1_000_000);
      await pair[Symbol.asyncDispose]();
      partner.end();
      await paired.closed;
      equal(await stopped, 0);
      if (relayConfig(manifests).usage.databasePath !== null)
        match(await rowsIn(image, join(directory, 'data')), /^happy 2000000$/mu);
    });
  }

  test('with an endless transfer ends within its grace period', async (t) => {
    const literals = ['RELAY_DRAIN_DELAY=0s', 'RELAY_DRAIN_TIMEOUT=1s'];
    const manifests = await buildOwn({
      resources: ['base'],
      configMapGenerator: [{ name: 'transit-relay', behavior: 'merge', literals }],
    });
    const directory = await scratch(t);
    await using pod = await Pod.create(manifests, { image, directory });
    const [sidecar, relay] = [await pod.start('sidecar'), await pod.start('relay')];
    await relay.waitForLog(LISTENING);
    const ports = { tcpPort: await pod.port('raw'), websocketPort: await pod.port('websocket') };
    const pair = await pairAt(ports, ['tcp', 'tcp']);
    const { delayMs, timeoutMs } = relayConfig(manifests).drain;
    // 137 would mean SIGKILL. The sidecar is stopped when the relay has ended and has the rest of the time.
    equal(await relay.stop((delayMs + timeoutMs) / 1000 + GRACE_MARGIN_SECONDS), 0);
    equal(await sidecar.stop(GRACE_MARGIN_SECONDS / 2), 0);
    match(await relay.logs(), /"pairs":1,"msg":"drain timeout; closing remaining transfers"/u);
    await Promise.all([pair.first.closed, pair.second.closed]);
    // A health check that the machine has delayed beyond its timeout may be recorded as a client that sent nothing.
    match(await rowsIn(image, join(directory, 'data')), /^(?:empty 0\n)?happy 0$/u);
  });
});
