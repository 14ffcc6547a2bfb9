import { deepEqual, equal, match, rejects } from 'node:assert/strict';
import { chownSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { pairAt } from '../../support/docker-clients.ts';
import { LISTENING, TESTS_AT_A_TIME, withoutDocker } from '../../support/docker.ts';
import type { Container } from '../../support/docker.ts';
import { buildImage } from '../../support/docker-images.ts';
import { scratch } from '../../support/scratch.ts';
import { buildOurs, buildOwn, withoutKubectl } from './kustomize.ts';
import type { Manifests } from './manifests.ts';
import { Pod } from './pod.ts';
import { SECRET } from './operator-secrets.ts';

const needsRoot =
  process.getuid?.() === 0 ? false : 'needs root, to change the owner of volumes: run it with sudo';

/** The log line of the sidecar when it is ready. */
const SIDECAR_LISTENING = /"role":"sidecar".*"msg":"listening"/u;

/** Connects two clients of the pod's relay, one per port, and exchanges that many bytes. */
async function transfer(pod: Pod, count: number): Promise<void> {
  const ports = { tcpPort: await pod.port('raw'), websocketPort: await pod.port('websocket') };
  for (const transports of [['tcp', 'tcp'] as const, ['tcp', 'websocket'] as const]) {
    await using pair = await pairAt(ports, transports);
    await pair.exchange(count);
  }
}

/** Every route that the kubelet and monitoring query over HTTP, as `port path`. */
function routesOf(manifests: Manifests): string[] {
  const probes = manifests.containers.flatMap((container) =>
    ['startupProbe', 'readinessProbe', 'livenessProbe'].map((probe) => container.at(probe, 'httpGet')),
  );
  const scraped = manifests.all('PodMonitor').flatMap((one) => one.at('spec', 'podMetricsEndpoints').items);
  const routes = [...probes, ...scraped].filter((route) => route.isThere);
  return [...new Set(routes.map((route) => `${route.at('port').word} ${route.at('path').word}`))];
}

describe(
  'a pod of the manifests',
  { skip: withoutKubectl || withoutDocker || needsRoot, concurrency: TESTS_AT_A_TIME },
  () => {
    let image = '';
    before(async () => {
      image = await buildImage();
    });

    test('relays, answers every probe and scrape, and takes snapshots', async (t) => {
      const manifests = await buildOwn({ resources: ['base'], components: ['components/podmonitor'] });
      await using pod = await Pod.create(manifests, { image, directory: await scratch(t), secret: SECRET });
      // A native sidecar starts first: there is neither a database nor a relay yet.
      const sidecar = await pod.start('sidecar');
      await sidecar.waitForLog(SIDECAR_LISTENING);
      equal(await pod.probe('sidecar', sidecar), 'sidecar: ok');
      const relay = await pod.start('relay');
      await relay.waitForLog(LISTENING);
      await transfer(pod, 100_000);
      match(await relay.exec('cat', '/proc/sys/net/ipv4/tcp_rmem'), /\t3670016$/u);

      const authorization = `Bearer ${SECRET}`;
      const routes = routesOf(manifests);
      deepEqual(routes.toSorted(), [
        'sidecar /metrics',
        'status /livez',
        'status /metrics',
        'status /readyz',
      ]);
      for (const route of routes) {
        const [port = '', path = ''] = route.split(' ');
        equal((await pod.ask(port, path, { authorization })).status, 200, route);
      }
      equal((await pod.ask('status', '/none')).status, 404);
      equal((await pod.ask('sidecar', '/live.json')).status, 401);
      const live = await (await pod.ask('sidecar', '/live.json', { authorization })).text();
      match(live, /"state":"serving".*"relayed_bytes":400000\b/u);
      equal(await relay.stop(60), 0);
      // The sidecar outlives the relay and can still read its records.
      equal(await pod.probe('sidecar', sidecar), 'sidecar: ok');
      const taken = await fetch(`http://127.0.0.1:${await pod.port('sidecar')}/snapshots`, {
        method: 'POST',
        headers: { authorization },
      });
      match(await taken.text(), /"rows":2/u);
      equal(await sidecar.stop(10), 0);
    });

    test('without the Secret serves the dashboard only on its own loopback', async (t) => {
      const manifests = await buildOurs('base');
      await using pod = await Pod.create(manifests, { image, directory: await scratch(t) });
      const sidecar = await pod.start('sidecar');
      await sidecar.waitForLog(SIDECAR_LISTENING);
      equal(await pod.probe('sidecar', sidecar), 'sidecar: ok');
      await rejects(pod.ask('sidecar', '/healthz'));
    });

    test('of the minimal overlay relays without a volume', async (t) => {
      const manifests = await buildOurs('overlays/minimal');
      const directory = await scratch(t);
      await using pod = await Pod.create(manifests, { image, directory });
      deepEqual(readdirSync(directory), []);
      const relay = await pod.start('relay');
      await relay.waitForLog(LISTENING);
      await transfer(pod, 1000);
      equal((await pod.ask('status', '/readyz')).status, 200);
      equal(await relay.exec('ls', '/data'), '');
      equal(await relay.stop(60), 0);
    });

    test('of the production overlay stores its records, and the used quota, on its volume', async (t) => {
      const manifests = await buildOwn({
        resources: ['overlays/production'],
        configMapGenerator: [
          { name: 'transit-relay', behavior: 'merge', literals: ['RELAY_QUOTA=1TB/month'] },
        ],
      });
      const directory = await scratch(t);
      await using pod = await Pod.create(manifests, { image, directory });
      const relay = await pod.start('relay');
      await relay.waitForLog(LISTENING);
      await transfer(pod, 1000);
      equal(await relay.stop(60), 0);
      const files = readdirSync(join(directory, 'data')).toSorted();
      deepEqual(files, ['usage.sqlite', 'usage.sqlite-quota.json']);
      const { uid, gid } = statSync(join(directory, 'data', 'usage.sqlite'));
      deepEqual([uid, gid], [1000, 1000]);
    });

    test('of a cluster does not start its relay if settings of its sidecar are wrong', async (t) => {
      const wrong = 'SIDECAR_SNAPSHOT_KEEP=none';
      for (const literals of [[wrong], []]) {
        const configMapGenerator = [{ name: 'transit-relay-sidecar', behavior: 'merge', literals }];
        const manifests = await buildOwn({ resources: ['overlays/cluster'], configMapGenerator });
        await using pod = await Pod.create(manifests, { image, directory: await scratch(t) });
        const sidecar = await pod.start('sidecar');
        if (literals.includes(wrong)) {
          equal(await sidecar.exitCode(), 78);
          // A kubelet does not start the relay, and the pod is not ready, before this probe has succeeded.
          await rejects(pod.probe('sidecar', sidecar, 'startupProbe'), /not running/u);
        } else {
          await sidecar.waitForLog(SIDECAR_LISTENING);
          equal(await pod.probe('sidecar', sidecar, 'startupProbe'), 'sidecar: ok');
        }
      }
    });

    test('does not start on a volume without its group, and says which owner it needs', async (t) => {
      const base = await buildOurs('base');
      const which = ['StatefulSet', 'transit-relay'] as const;
      const broken = base.with(which, ['spec', 'template', 'spec', 'securityContext', 'fsGroup'], undefined);
      await using pod = await Pod.create(broken, { image, directory: await scratch(t) });
      const relay = await pod.start('relay');
      equal(await relay.exitCode(), 1);
      match(
        await relay.logs(),
        /can't use \\"\/data\/usage\.sqlite\\" as the usage database: .*\b1000\b.*\n$/u,
      );
    });

    test('ignores files of the file system itself on the volume', async (t) => {
      const directory = await scratch(t);
      const manifests = await buildOurs('base');
      await using pod = await Pod.create(manifests, { image, directory });
      // Created by mkfs.ext4.
      const found = join(directory, 'data', 'lost+found');
      mkdirSync(found, { mode: 0o700 });
      chownSync(found, 0, 0);
      const containers: Container[] = [];
      for (const name of ['sidecar', 'relay']) containers.push(await pod.start(name));
      const [sidecar, relay] = containers;
      await sidecar?.waitForLog(/"msg":"snapshot taken"/u);
      await relay?.waitForLog(LISTENING);
    });
  },
);
