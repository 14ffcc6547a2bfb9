import { deepEqual, equal } from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chmod, copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { stringify } from 'yaml';
import { ComposeProject } from '../../support/compose.ts';
import { pairAt } from '../../support/docker-clients.ts';
import { DockerSandbox, withoutDocker } from '../../support/docker.ts';
import { buildDebian, buildImage } from '../../support/docker-images.ts';
import { freePort, freePorts } from '../../support/listening.ts';
import { scratch } from '../../support/scratch.ts';
import { listAt, textAt } from './fields.ts';
import { PrometheusApi } from './prometheus-api.ts';
import { PROMETHEUS_DIRECTORY, readAlerts } from './shipped.ts';

const BYTES = 30_000;

/** Debian's Prometheus with the user, directory and entry point of the public image. */
function buildPrometheus(): Promise<string> {
  return buildDebian(
    ['prometheus'],
    [
      'RUN install --directory --owner=nobody --group=nogroup /prometheus',
      'USER nobody',
      'VOLUME /prometheus',
      'WORKDIR /prometheus',
      'ENTRYPOINT ["/bin/prometheus"]',
    ],
  );
}

/** The result of the last scrape, for each target. */
async function healthOfTargets(prometheus: PrometheusApi): Promise<string[]> {
  const targets = listAt(await prometheus.api('targets'), 'activeTargets');
  return targets.map((target) => `${textAt(target, 'labels', 'job')} ${textAt(target, 'health')}`).toSorted();
}

/** Waits until both targets are up, relays a transfer, and waits until Prometheus has counted it. */
async function expectTransferCounted(
  prometheus: PrometheusApi,
  ports: { readonly tcpPort: number; readonly websocketPort: number },
): Promise<void> {
  const isUp = (health: readonly string[]): boolean =>
    health.length === 2 && health.every((target) => target.endsWith(' up'));
  const health = await prometheus.until(() => healthOfTargets(prometheus), isUp);
  deepEqual(health, ['transit-relay up', 'transit-relay-sidecar up']);
  const pair = await pairAt(ports, ['tcp', 'websocket']);
  await pair.exchange(BYTES);
  await pair[Symbol.asyncDispose]();
  await prometheus.becomes('transit_relay_relayed_bytes_total', 2 * BYTES);
  const groups = listAt(await prometheus.api('rules'), 'groups');
  equal(groups.flatMap((group) => listAt(group, 'rules')).length, readAlerts().length);
}

/** The shipped files with other ports for the status port and the sidecar, as a compose override file. */
async function withPorts(context: TestContext, statusPort: number, sidecarPort: number): Promise<string> {
  const directory = await scratch(context);
  await chmod(directory, 0o755);
  const shipped = readFileSync(join(PROMETHEUS_DIRECTORY, 'prometheus.yml'), 'utf8');
  const moved = shipped
    .replace("['relay:4003']", `['relay:${statusPort}']`)
    .replace("['sidecar:4004']", `['sidecar:${sidecarPort}']`);
  await writeFile(join(directory, 'prometheus.yml'), moved);
  await copyFile(join(PROMETHEUS_DIRECTORY, 'alerts.yml'), join(directory, 'alerts.yml'));
  const override = join(directory, 'override.yml');
  const volumes = [`${directory}:/etc/prometheus:ro`];
  await writeFile(override, stringify({ services: { prometheus: { volumes } } }));
  return override;
}

describe('Prometheus beside the relay, with compose', { skip: withoutDocker, concurrency: true }, () => {
  const sandbox = new DockerSandbox();
  let images = { RELAY_IMAGE: '', PROMETHEUS_IMAGE: '' };
  before(async () => {
    const [relay, prometheus] = await Promise.all([buildImage(), buildPrometheus()]);
    images = { RELAY_IMAGE: relay, PROMETHEUS_IMAGE: prometheus };
  });

  test('scrapes both, and is published on loopback only', async () => {
    const files = ['docker-compose.yml', 'deploy/prometheus/compose.yml'];
    const settings = { ...images, PROMETHEUS_PORT: String(await freePort()) };
    await using project = new ComposeProject({ project: sandbox.name('prometheus'), files, settings });
    await project.run('up', '--detach', '--wait', '--no-build');
    const relay = await project.container('relay');
    const container = await project.container('prometheus');
    equal(
      await container.inspect('{{range .HostConfig.PortBindings}}{{(index . 0).HostIp}}{{end}}'),
      '127.0.0.1',
    );
    const prometheus = new PrometheusApi(`http://127.0.0.1:${await container.port(9090)}`);
    const ports = { tcpPort: await relay.port(4001), websocketPort: await relay.port(4002) };
    await expectTransferCounted(prometheus, ports);
  });

  test('scrapes both with host networking', async (t) => {
    const [tcpPort = 0, websocketPort = 0, statusPort = 0, sidecarPort = 0, port = 0] = await freePorts(5);
    const settings = {
      ...images,
      RELAY_PORT: String(tcpPort),
      RELAY_WEBSOCKET_PORT: String(websocketPort),
      RELAY_STATUS_PORT: String(statusPort),
      SIDECAR_PORT: String(sidecarPort),
      PROMETHEUS_PORT: String(port),
    };
    const files = [
      'docker-compose.yml',
      'deploy/compose/host-network.yml',
      'deploy/prometheus/compose.yml',
      'deploy/prometheus/host-network.yml',
      await withPorts(t, statusPort, sidecarPort),
    ];
    await using project = new ComposeProject({ project: sandbox.name('prometheus-host'), files, settings });
    await project.run('up', '--detach', '--wait', '--no-build');
    await expectTransferCounted(new PrometheusApi(`http://127.0.0.1:${port}`), { tcpPort, websocketPort });
  });
});
