import { equal, match, notEqual, ok } from 'node:assert/strict';
import { get } from 'node:https';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { ComposeProject } from '../support/compose.ts';
import { DockerHouse, buildDebian, buildImage, docker, withoutDocker } from '../support/docker.ts';
import type { Container } from '../support/docker.ts';
import { SecureClient } from '../support/secure-client.ts';
import { scratch } from '../support/scratch.ts';

/** More than one read and one frame. */
const SOME_BYTES = 500_000;

const READY_TRIES = 100;
const READY_PAUSE_MS = 100;

const PAIRED = 'ok\n';

/** A TLS front of the relay, and what its clients have to trust. */
interface Front {
  readonly service: string;
  readonly image: () => Promise<string>;
  readonly settings: (image: string, context: TestContext) => Promise<Record<string, string>>;
  readonly certificate: (container: Container) => Promise<string>;
}

const CADDY: Front = {
  service: 'caddy',
  // The directories are those of the public image.
  image: () =>
    buildDebian(
      ['caddy', 'ca-certificates'],
      [
        'ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data',
        'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]',
      ],
    ),
  // For this name Caddy asks no certificate authority but its own.
  settings: (image) => Promise.resolve({ CADDY_IMAGE: image, RELAY_DOMAIN: 'localhost' }),
  certificate: async (container) => {
    await container.says(/certificate obtained successfully/u);
    return container.exec('cat', '/data/caddy/pki/authorities/local/root.crt');
  },
};

const NGINX: Front = {
  service: 'nginx',
  image: () => buildDebian(['nginx-light', 'openssl']),
  settings: async (image, context) => {
    const directory = await scratch(context);
    const mount = ['--rm', '--volume', `${directory}:/tls`];
    const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    const subject = ['-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
    const files = ['-keyout', '/tls/key.pem', '-out', '/tls/certificate.pem'];
    await docker('run', ...mount, image, 'openssl', ...request, ...subject, ...files);
    return {
      NGINX_IMAGE: image,
      TLS_CERTIFICATE: join(directory, 'certificate.pem'),
      TLS_KEY: join(directory, 'key.pem'),
    };
  },
  certificate: (container) => container.exec('cat', '/etc/nginx/tls/certificate.pem'),
};

/** Connects two clients to each other, until the end of the test at the latest. */
async function pairOver(
  context: TestContext,
  port: number,
  certificate: string,
): Promise<[SecureClient, SecureClient]> {
  const token = newToken();
  const first = await SecureClient.connect(port, certificate);
  const second = await SecureClient.connect(port, certificate);
  context.after(() => {
    for (const client of [first, second]) client[Symbol.dispose]();
  });
  first.send(handshake(token, SIDE_A));
  second.send(handshake(token, SIDE_B));
  for (const client of [first, second]) equal(String(await client.until(PAIRED.length)), PAIRED);
  return [first, second];
}

async function exchange([first, second]: [SecureClient, SecureClient]): Promise<void> {
  const bytes = randomBytesOf(7, SOME_BYTES);
  first.send(bytes);
  second.send(bytes);
  for (const client of [first, second]) {
    const received = await client.until(PAIRED.length + SOME_BYTES);
    ok(received.equals(Buffer.concat([Buffer.from(PAIRED), bytes])), `${received.length} bytes arrived`);
    client.end();
  }
  await Promise.all([first.closed, second.closed]);
}

/** The HTTP status of a plain request. */
function statusOf(port: number, path: string, ca: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const request = {
      host: '127.0.0.1',
      port,
      path,
      ca,
      servername: 'localhost',
      headers: { host: 'localhost' },
    };
    get(request, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on('error', reject);
  });
}

/** Resolves when the relay answers through the front, which may take a moment after both run. */
async function answering(port: number, certificate: string): Promise<void> {
  let last: unknown;
  for (let tries = 0; tries < READY_TRIES; tries += 1) {
    try {
      last = await statusOf(port, '/', certificate);
      if (Number(last) < 500) return;
    } catch (error) {
      last = error;
    }
    await setTimeout(READY_PAUSE_MS);
  }
  throw new Error('the front does not answer', { cause: last });
}

describe('TLS in front of the relay', { skip: withoutDocker, concurrency: true }, () => {
  const house = new DockerHouse();
  let relayImage = '';
  before(async () => {
    relayImage = await buildImage();
  });

  for (const front of [CADDY, NGINX]) {
    test(`with ${front.service}: wss:// clients pair, go on while the relay drains, and are named nowhere`, async (t) => {
      const image = await front.image();
      const settings = { RELAY_IMAGE: relayImage, ...(await front.settings(image, t)) };
      const files = ['docker-compose.yml', `deploy/compose/tls-${front.service}.yml`];
      await using project = new ComposeProject({ project: house.name(front.service), files, settings });
      await project.run('up', '--detach', '--wait', '--no-build');
      const proxy = await project.container(front.service);
      const port = await proxy.port(443);
      const certificate = await front.certificate(proxy);

      await answering(port, certificate);
      await exchange(await pairOver(t, port, certificate));
      for (const path of ['/snapshots', '/usage.json', '/healthz'])
        notEqual(await statusOf(port, path, certificate), 200, path);

      await project.run('stop', 'relay');
      match(String(await statusOf(port, '/', certificate)), /^50[24]$/u);
      // A relay that is made anew may have another address.
      await project.run('up', '--detach', '--wait', '--no-build', '--force-recreate', 'relay');
      await answering(port, certificate);
      const last = await pairOver(t, port, certificate);
      const relay = await project.container('relay');
      const stopped = project.run('stop');
      await relay.says(/"pairs":1,.*"msg":"draining"/u);
      await exchange(last);
      await stopped;

      const network = `${house.name(front.service)}_default`;
      const ours = await docker(
        'network',
        'inspect',
        '--format',
        '{{range .IPAM.Config}}{{.Gateway}}{{end}}',
        network,
      );
      const log = await proxy.logs();
      equal(log.includes(ours), false, log);
    });
  }
});
