import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { WebSocket } from 'ws';
import { ComposeProject } from '../../support/compose.ts';
import {
  DockerSandbox,
  TESTS_AT_A_TIME,
  askDocker,
  docker,
  rowsIn,
  withoutDocker,
} from '../../support/docker.ts';
import type { Container } from '../../support/docker.ts';
import { buildDebian, buildImage, buildMailbox } from '../../support/docker-images.ts';
import { CONDITION_TIMEOUT_MS } from '../../support/programs.ts';
import { scratch } from '../../support/scratch.ts';
import { SecureClient } from '../../support/secure-client.ts';
import { CADDY, NGINX, statusOf, untilAnswering } from './tls-proxies.ts';

const FILES = ['docker-compose.yml', 'deploy/compose/mailbox.yml'];

/** Larger than all buffers on the way. */
const FILE_BYTES = 20_000_000;

/** The host's name for its clients. Caddy signs certificates for such names itself. */
const HOST = 'host.localhost';

/** Where the clients have the certificate to trust. */
const CA = '/tls/ca.pem';

const HEALTHCHECK = '/app/healthcheck.sh';

/** The first field of every greeting. */
const GREETING = /^\{"welcome": \{/u;

/** Makes a port of this machine's loopback reachable at another of its addresses, until the end of the test. */
async function forward(context: TestContext, address: string, port: number): Promise<void> {
  const open = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on('close', () => open.delete(socket)).on('error', () => undefined);
    }
    client.pipe(upstream).pipe(client);
  });
  server.listen(port, address);
  await once(server, 'listening');
  context.after(() => {
    server.close();
    for (const socket of open) socket.destroy();
  });
}

/** A client of the mailbox server that sends what the test says. */
class MailboxClient implements Disposable {
  readonly #ws: WebSocket;
  readonly #messages: string[] = [];
  #notify: () => void = () => undefined;

  private constructor(ws: WebSocket) {
    this.#ws = ws;
    ws.on('message', (data: Buffer) => {
      this.#messages.push(String(data));
      this.#notify();
    });
    ws.on('error', () => undefined).on('close', () => this.#notify());
  }

  static async connect(port: number): Promise<MailboxClient> {
    const client = new MailboxClient(new WebSocket(`ws://127.0.0.1:${port}/v1`));
    await client.until(GREETING);
    return client;
  }

  send(...messages: readonly (string | Readonly<Record<string, string>>)[]): void {
    for (const message of messages)
      this.#ws.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  /** Resolves with the first message that matches. */
  async until(pattern: RegExp): Promise<string> {
    const deadline = setTimeout(() => this.#ws.terminate(), CONDITION_TIMEOUT_MS);
    for (;;) {
      const found = this.#messages.find((message) => pattern.test(message));
      if (found !== undefined) {
        clearTimeout(deadline);
        return found;
      }
      if (this.#ws.readyState === WebSocket.CLOSED)
        throw new Error(`closed without ${pattern}: ${this.#messages.join('\n')}`);
      await new Promise<void>((resolve) => {
        this.#notify = resolve;
      });
    }
  }

  async closed(): Promise<void> {
    if (this.#ws.readyState !== WebSocket.CLOSED) await once(this.#ws, 'close');
  }

  [Symbol.dispose](): void {
    this.#ws.terminate();
  }
}

describe('the mailbox server of compose', { skip: withoutDocker, concurrency: TESTS_AT_A_TIME }, () => {
  let images: Readonly<Record<string, string>> = {};
  let clients = '';
  before(async () => {
    images = { RELAY_IMAGE: await buildImage(), MAILBOX_IMAGE: await buildMailbox() };
    clients = await buildDebian(['iproute2', 'magic-wormhole']);
  });

  /**
   * Sends a file from one container to another, with the documented options. Each is in a network of its own, from
   * which it reaches only the given ports of this machine.
   */
  async function transfer(
    context: TestContext,
    sandbox: DockerSandbox,
    setup: { readonly ports: readonly number[]; readonly options: string; readonly certificate?: string },
  ): Promise<string> {
    const directory = await scratch(context);
    writeFileSync(join(directory, 'ca.pem'), setup.certificate ?? '');
    chmodSync(directory, 0o755);
    const start = async (script: string): Promise<Container> => {
      const network = await sandbox.network('--internal');
      const format = '{{range .IPAM.Config}}{{.Gateway}}{{end}}';
      const gateway = await docker('network', 'inspect', '--format', format, network);
      for (const port of setup.ports) await forward(context, gateway, port);
      const options = [
        '--network',
        network,
        '--add-host',
        `${HOST}:${gateway}`,
        '--volume',
        `${directory}:/tls:ro`,
      ];
      if (setup.certificate !== undefined) options.push('--env', `SSL_CERT_FILE=${CA}`);
      const command = `cd /tmp; export LANG=C.UTF-8; ${script}`;
      return sandbox.run(clients, options, 'sh', '-ec', command);
    };
    // Clients that do not listen need the relay: Docker connects all networks for a moment when it creates one.
    const wormhole = (action: string): string =>
      `wormhole ${setup.options} ${action} --no-listen --hide-progress`;
    const code = `4-${randomBytes(4).toString('hex')}`;
    const sender = await start(
      `head -c ${FILE_BYTES} /dev/urandom >noise.bin; ${wormhole('send')} --code ${code} noise.bin; sha256sum noise.bin`,
    );
    const receiver = await start(`${wormhole('receive')} --accept-file ${code}; sha256sum noise.bin`);
    equal(await sender.exitCode(), 0, await sender.logs());
    equal(await receiver.exitCode(), 0, await receiver.logs());
    const sums = [await sender.logs(), await receiver.logs()].map((log) => /^[0-9a-f]{64}/mu.exec(log)?.[0]);
    ok(sums[0] !== undefined);
    equal(sums[1], sums[0]);
    return receiver.logs();
  }

  test('serves two clients that reach nothing but this host, which send a file through the relay', async (t) => {
    await using sandbox = new DockerSandbox();
    const built = sandbox.name('mailbox').replace('relay-test', 'transit-relay');
    t.after(() => docker('image', 'rm', '--force', built));
    const settings = { ...images, MAILBOX_IMAGE: built };
    await using project = new ComposeProject({ project: sandbox.name('host'), files: FILES, settings });
    // Compose builds the image.
    await project.run('up', '--detach', '--wait');
    const relayPort = await (await project.container('relay')).port(4001);
    const mailboxPort = await (await project.container('mailbox')).port(4000);
    const options = `--relay-url=ws://${HOST}:${mailboxPort}/v1 --transit-helper=tcp:${HOST}:${relayPort}`;
    const log = await transfer(t, sandbox, { ports: [relayPort, mailboxPort], options });
    match(log, new RegExp(`^Receiving \\(->relay:tcp:${HOST}:${relayPort}\\)`, 'mu'));

    await project.run('stop');
    const [mood, bytes] = (await rowsIn(images['RELAY_IMAGE'] ?? '', `${sandbox.name('host')}_usage`)).split(
      ' ',
    );
    equal(mood, 'happy');
    ok(Number(bytes) >= FILE_BYTES && Number(bytes) < FILE_BYTES * 1.01, bytes);
  });

  for (const proxy of [CADDY, NGINX]) {
    test(`is on port 443 with the relay behind ${proxy.service}, and its path tells them apart`, async (t) => {
      await using sandbox = new DockerSandbox();
      const settings = { ...images, ...(await proxy.settings(await proxy.image(), t, HOST)) };
      const files = [...FILES.slice(0, 1), `deploy/compose/tls-${proxy.service}.yml`, ...FILES.slice(1)];
      await using project = new ComposeProject({ project: sandbox.name(proxy.service), files, settings });
      await project.run('up', '--detach', '--wait', '--no-build');
      const container = await project.container(proxy.service);
      const port = await container.port(443);
      const certificate = await proxy.certificate(container);
      await untilAnswering(port, certificate, HOST);

      using relay = await SecureClient.connect(port, certificate, { name: HOST });
      relay.send('please relay nothing\n');
      equal(String(await relay.until(1)), 'bad handshake\n');
      using mailbox = await SecureClient.connect(port, certificate, { name: HOST, path: '/v1' });
      match(String(await mailbox.until(12)), GREETING);

      const relayPort = await (await project.container('relay')).port(4001);
      const options = `--relay-url=wss://${HOST}:${port}/v1 --transit-helper=tcp:${HOST}:${relayPort}`;
      await transfer(t, sandbox, { ports: [relayPort, port], options, certificate });

      // Without a mailbox server, the relay's clients are served as before.
      await project.run('rm', '--stop', '--force', 'mailbox');
      match(String(await statusOf(port, '/v1', certificate, HOST)), /^50[24]$/u);
      equal(await statusOf(port, '/', certificate, HOST), 200);
      await project.run('up', '--detach', '--wait', '--no-build', 'mailbox');
      using again = await SecureClient.connect(port, certificate, { name: HOST, path: '/v1' });
      match(String(await again.until(12)), GREETING);
    });
  }

  test('is hardened, keeps its messages when it is replaced, stops at once, and logs errors without clients', async () => {
    await using sandbox = new DockerSandbox();
    await using project = new ComposeProject({
      project: sandbox.name('keep'),
      files: FILES,
      settings: images,
    });
    await project.run('up', '--detach', '--wait', '--no-build', 'mailbox');
    const first = await project.container('mailbox');
    equal(
      await first.inspect(
        '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}',
      ),
      'true [ALL] [no-new-privileges]',
    );
    ok(Number(await first.inspect('{{.HostConfig.Memory}}')) > 0);
    ok(Number(await first.inspect('{{.HostConfig.PidsLimit}}')) > 0);
    equal(await first.exec('id', '--user'), '1000');
    equal(await first.exec('cat', '/proc/1/comm'), 'tini');

    const name = `mailbox-${randomBytes(4).toString('hex')}`;
    using sender = await MailboxClient.connect(await first.port(4000));
    sender.send(
      { type: 'bind', appid: 'test', side: 'sender' },
      { type: 'open', mailbox: name },
      { type: 'add', phase: 'pake', body: 'c0ffee' },
    );
    await sender.until(/"phase": "pake"/u);
    using broken = await MailboxClient.connect(await first.port(4000));
    broken.send('this is not JSON');
    await broken.closed();
    await first.waitForLog(/JSONDecodeError/u);
    // The body of a request would be stored if there was a place for it.
    const upload = connect(await first.port(4000), '127.0.0.1').resume();
    upload.write(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 1000000\r\n\r\n`);
    await once(upload, 'close');
    equal(await first.exec('ls', '/data'), 'channels.sqlite');
    const started = performance.now();
    equal(await first.stop(30), 0);
    ok(performance.now() - started < 15_000);
    const log = await first.logs();
    const addresses = log.match(/\b(?:\d{1,3}\.){3}\d{1,3}\b/gu);
    deepEqual(addresses, null, log);

    await project.run('down');
    await project.run('up', '--detach', '--wait', '--no-build', 'mailbox');
    const second = await project.container('mailbox');
    using receiver = await MailboxClient.connect(await second.port(4000));
    receiver.send({ type: 'bind', appid: 'test', side: 'receiver' }, { type: 'open', mailbox: name });
    match(await receiver.until(/"phase": "pake"/u), /"side": "sender".*"body": "c0ffee"/u);
    equal(`${log}${await second.logs()}`.includes(name), false);
  });

  test('is unhealthy when it does not answer, or is not there', async () => {
    await using sandbox = new DockerSandbox();
    await using project = new ComposeProject({
      project: sandbox.name('health'),
      files: FILES,
      settings: images,
    });
    await project.run('up', '--detach', '--wait', '--no-build', 'mailbox');
    const mailbox = await project.container('mailbox');
    await using events = mailbox.watch('health_status');
    const server = (await mailbox.exec('cat', '/proc/1/task/1/children')).trim();
    await mailbox.exec('bash', '-c', `kill -STOP ${server}`);
    await events.match(/health_status: unhealthy/u);
    match(await mailbox.inspect('{{json .State.Health.Log}}'), /no greeting within/u);
    await mailbox.exec('bash', '-c', `kill -CONT ${server}`);
    await events.match(/unhealthy[^]*health_status: healthy/u);

    const empty = await sandbox.run(images['MAILBOX_IMAGE'] ?? '', ['--entrypoint', 'sleep'], 'infinity');
    const { code, stdout } = await askDocker(['exec', empty.id, HEALTHCHECK]);
    equal(`${code} ${stdout}`, '1 nothing listens on port 4000');
  });
});
