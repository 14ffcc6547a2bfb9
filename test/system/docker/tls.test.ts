import { equal, match, notEqual, ok, rejects } from 'node:assert/strict';
import { once } from 'node:events';
import { before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { connect } from 'node:tls';
import { WebSocket } from 'ws';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { ComposeProject } from '../../support/compose.ts';
import { pairAt } from '../../support/docker-clients.ts';
import { DockerSandbox, docker, withoutDocker } from '../../support/docker.ts';
import type { Container } from '../../support/docker.ts';
import { buildImage } from '../../support/docker-images.ts';
import { SecureClient } from '../../support/secure-client.ts';
import {
  CADDY,
  NGINX,
  certificateDirectory,
  statusOf,
  untilAnswering,
  writeCertificate,
} from './tls-proxies.ts';

/** More than one read and one frame. */
const SOME_BYTES = 500_000;

const PAIRED = 'ok\n';

/** All clients of a proxy have one address here. */
const MAX_PER_ADDRESS = 4;

/** Client connections of a proxy, and how many of them have a keepalive timer. */
async function keepaliveOf(container: Container): Promise<readonly [open: number, probed: number]> {
  const tables = await container.exec('sh', '-c', 'cat /proc/net/tcp /proc/net/tcp6');
  // Port 443, established. The timer follows the two queues; 02 means keepalive.
  const rows = [...tables.matchAll(/:01BB [\dA-F]+:[\dA-F]{4} 01 [\dA-F:]+ (\d\d):[\dA-F]+ /gu)];
  return [rows.length, rows.filter(([, timer]) => timer === '02').length];
}

/** Pairs two clients. They are closed at the end of the test. */
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

/** The reply and the close code of a client that claims another address. */
function connectWithForgedAddress(port: number, certificate: string): Promise<string> {
  const headers = { host: 'localhost', 'x-forwarded-for': '192.0.2.9' };
  const options = { ca: certificate, servername: 'localhost', headers };
  const client = new WebSocket(`wss://127.0.0.1:${port}/`, options);
  let received = '';
  return new Promise((resolve, reject) => {
    client.on('open', () => client.send(Buffer.from(handshake(newToken(), SIDE_A))));
    client.on('message', (data: Buffer) => {
      received += String(data);
    });
    client.on('close', (code) => resolve(`${received}${code}`));
    client.on('error', reject);
  });
}

/** Connects a client that offers only CBC suites. */
async function connectWithCbc(port: number, ca: string): Promise<void> {
  const ciphers = 'ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA';
  const socket = connect({
    port,
    host: '127.0.0.1',
    servername: 'localhost',
    ca,
    ciphers,
    maxVersion: 'TLSv1.2',
  });
  await once(socket, 'secureConnect');
  socket.destroy();
}

describe('TLS in front of the relay', { skip: withoutDocker, concurrency: true }, () => {
  const sandbox = new DockerSandbox();
  let relayImage = '';
  before(async () => {
    relayImage = await buildImage();
  });

  for (const tlsProxy of [CADDY, NGINX]) {
    test(`with ${tlsProxy.service}: wss:// clients are paired, counted by address, kept during a reload and a drain, and not logged`, async (t) => {
      const image = await tlsProxy.image();
      const settings = {
        RELAY_IMAGE: relayImage,
        RELAY_MAX_CONNECTIONS_PER_ADDRESS: String(MAX_PER_ADDRESS),
        // For clients that are accepted by mistake.
        RELAY_WAIT_TIMEOUT: '10s',
        ...(await tlsProxy.settings(image, t)),
      };
      const files = ['docker-compose.yml', `deploy/compose/tls-${tlsProxy.service}.yml`];
      await using project = new ComposeProject({ project: sandbox.name(tlsProxy.service), files, settings });
      await project.run('up', '--detach', '--wait', '--no-build');
      const proxy = await project.container(tlsProxy.service);
      const port = await proxy.port(443);
      const first = await tlsProxy.certificate(proxy);

      await untilAnswering(port, first);
      await rejects(connectWithCbc(port, first), /handshake failure/u);
      const running = await pairOver(t, port, first);
      const [open, probed] = await keepaliveOf(proxy);
      // The connection of an earlier request may still be open.
      ok(open >= running.length);
      equal(probed, open);
      const certificate = await tlsProxy.reload(project, proxy, settings);
      await exchange(running);
      await exchange(await pairOver(t, port, certificate));
      for (const path of ['/snapshots', '/usage.json'])
        notEqual(await statusOf(port, path, certificate), 200, path);
      // Monitoring may query the proxy.
      for (const path of ['/', '/healthz']) equal(await statusOf(port, path, certificate), 200, path);

      await project.run('stop', 'relay');
      match(String(await statusOf(port, '/', certificate)), /^50[24]$/u);
      // A recreated relay may have another address.
      await project.run('up', '--detach', '--wait', '--no-build', '--force-recreate', 'relay');
      await untilAnswering(port, certificate);
      const last = await pairOver(t, port, certificate);
      const others = [
        await SecureClient.connect(port, certificate),
        await SecureClient.connect(port, certificate),
      ];
      equal(await connectWithForgedAddress(port, certificate), 'busy\n1013');
      for (const client of others) client[Symbol.dispose]();
      const relay = await project.container('relay');
      const stopped = project.run('stop');
      await relay.waitForLog(/"pairs":1,.*"msg":"draining"/u);
      await exchange(last);
      await stopped;

      const network = `${sandbox.name(tlsProxy.service)}_default`;
      const gateway = await docker(
        'network',
        'inspect',
        '--format',
        '{{range .IPAM.Config}}{{.Gateway}}{{end}}',
        network,
      );
      const log = await proxy.logs();
      equal(log.includes(gateway), false, log);
    });
  }

  test('with one port: clients of every protocol can connect, and a new certificate needs no restart', async (t) => {
    const [first, second] = [makeIdentity(), makeIdentity()];
    const directory = await certificateDirectory(t, first);
    const settings = { RELAY_IMAGE: relayImage, TLS_DIRECTORY: directory };
    const files = ['docker-compose.yml', 'deploy/compose/one-port.yml'];
    await using project = new ComposeProject({ project: sandbox.name('one-port'), files, settings });
    await project.run('up', '--detach', '--wait', '--no-build');
    const relay = await project.container('relay');
    const port = await relay.port(4001);

    await exchange(await pairOver(t, port, first.certificate));
    await using pair = await pairAt({ tcpPort: port, websocketPort: port }, ['tcp', 'websocket']);
    await pair.exchange(SOME_BYTES);

    writeCertificate(directory, second);
    await relay.waitForLog(/"msg":"certificate replaced"/u);
    await exchange(await pairOver(t, port, second.certificate));
  });

  test('with a certificate by ACME: without one, port 443 and the relay work, and the log says why there is none', async () => {
    const settings = {
      RELAY_IMAGE: relayImage,
      RELAY_ACME_DOMAIN: 'relay.example.org',
      RELAY_ACME_AGREE: 'true',
      RELAY_ACME_DIRECTORY: 'https://127.0.0.1:10443/directory',
      RELAY_HTTPS_PORT: '0',
      RELAY_PORT: '0',
    };
    const files = ['docker-compose.yml', 'deploy/compose/acme.yml'];
    await using project = new ComposeProject({ project: sandbox.name('acme'), files, settings });
    // Waits until it is healthy.
    await project.run('up', '--detach', '--wait', '--no-build');
    const relay = await project.container('relay');
    await relay.waitForLog(/"event":"acme_failed",.*"detail":"127\.0\.0\.1:10443: ECONNREFUSED"/u);
    const port = await relay.port(443);
    await using pair = await pairAt({ tcpPort: port, websocketPort: port }, ['tcp', 'websocket']);
    await pair.exchange(SOME_BYTES);
  });
});
