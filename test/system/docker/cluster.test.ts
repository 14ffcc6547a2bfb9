import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { ComposeProject } from '../../support/compose.ts';
import { Dice } from '../../support/dice.ts';
import { DockerSandbox, askDocker, docker, withoutDocker } from '../../support/docker.ts';
import type { Container } from '../../support/docker.ts';
import { buildDebian, buildImage } from '../../support/docker-images.ts';
import { TestClient } from '../../support/test-client.ts';

const FILES = ['docker-compose.yml', 'deploy/compose/cluster.yml'];

const RELAYS = ['relay', 'relay-2', 'relay-3'];
const SERVICES = [...RELAYS, 'haproxy', 'valkey'];

const SECRETS = {
  RELAY_CLUSTER_SECRET: 'a-secret-of-this-test-alone',
  RELAY_CLUSTER_PASSWORD: 'a-password-of-this-test-alone',
};

/** Transfers that run when a relay fails, and transfers that start after each of two failures. */
const RUNNING = 100;
const NEW_TRANSFERS = 50;

/** Bytes that each client sends before, during and after the kill of a relay. */
const PART_BYTES = 100_000;
const PIECE_BYTES = 16_384;

/**
 * Connections per address and relay. All test clients have one address, so this is above the default for one
 * relay.
 */
const MAX_PER_ADDRESS = 250;

const PAIRED = 'ok\n';
const STOPPING = 'shutting down\n';

/** Connects a client until it is paired. It reconnects if a stopping relay rejects it. */
async function connectPaired(port: number, line: string, dice: Dice): Promise<TestClient> {
  const transport = dice.happens(0.5) ? 'tcp' : 'websocket';
  for (;;) {
    const client = await TestClient.connect(transport, { tcpPort: port, websocketPort: port, unixPath: '' });
    await client.send(line);
    const reply = String(await client.until(PAIRED.length));
    if (reply === PAIRED) return client;
    await client.closed;
    equal(String(client.received), STOPPING);
  }
}

/** Two clients, each with the bytes that it sends. */
class Transfer {
  readonly #sides: readonly {
    readonly client: TestClient;
    readonly bytes: Buffer;
    readonly expectedBytes: Buffer;
  }[];
  #sent = 0;
  #sending: Promise<unknown> = Promise.resolve();

  private constructor(first: TestClient, second: TestClient, seed: number) {
    const there = randomBytesOf(2 * seed, 3 * PART_BYTES);
    const back = randomBytesOf(2 * seed + 1, 3 * PART_BYTES);
    this.#sides = [
      { client: first, bytes: there, expectedBytes: back },
      { client: second, bytes: back, expectedBytes: there },
    ];
  }

  static async begin(port: number, seed: number): Promise<Transfer> {
    const token = newToken();
    const dice = new Dice(seed);
    const [first, second] = await Promise.all([
      connectPaired(port, handshake(token, SIDE_A), dice),
      connectPaired(port, handshake(token, SIDE_B), dice),
    ]);
    return new Transfer(first, second, seed);
  }

  /** Makes both clients send a third more. */
  sendPart(): void {
    const from = this.#sent;
    this.#sent += PART_BYTES;
    const send = () =>
      Promise.all(
        this.#sides.map(({ client, bytes }) =>
          client.sendAll(bytes.subarray(from, from + PART_BYTES), PIECE_BYTES),
        ),
      );
    this.#sending = this.#sending.then(send);
  }

  /**
   * Waits for all bytes that were sent, and compares them. False if a connection ends before they have
   * arrived.
   */
  async arrived(): Promise<boolean> {
    const count = PAIRED.length + this.#sent;
    const results = await Promise.all(
      this.#sides.map(async ({ client, expectedBytes }) => {
        const received = await client.until(count);
        const expected = Buffer.concat([Buffer.from(PAIRED), expectedBytes.subarray(0, this.#sent)]);
        ok(received.equals(expected.subarray(0, received.length)), 'received bytes differ from sent bytes');
        return received.length === count;
      }),
    );
    await this.#sending;
    return results.every(Boolean);
  }

  async end(): Promise<void> {
    for (const { client } of this.#sides) client.end();
    await Promise.all(this.#sides.map(({ client }) => client.closed));
  }
}

function beginAll(port: number, count: number, seed: number): Promise<Transfer[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => Transfer.begin(port, seed + index)));
}

/** Starts that many transfers at once. Resolves with the number of failed ones. */
async function countFailed(port: number, count: number, seed: number): Promise<number> {
  const transfers = await beginAll(port, count, seed);
  for (const transfer of transfers) transfer.sendPart();
  return countBroken(transfers);
}

/** Ends transfers that have sent everything. Resolves with the number of broken ones. */
async function countBroken(transfers: readonly Transfer[]): Promise<number> {
  const results = await Promise.all(transfers.map((transfer) => transfer.arrived()));
  await Promise.all(transfers.map((transfer) => transfer.end()));
  return results.filter((isComplete) => !isComplete).length;
}

interface Load {
  /** Pairs that this relay owns. */
  readonly pairs: number;
  /** Clients that this relay forwards to pairs of other relays. */
  readonly forwarded: number;
}

async function loadOf(relay: Container): Promise<Load> {
  const script = `fetch('http://127.0.0.1:4003/metrics').then(async (answer) => console.log(await answer.text()))`;
  const text = await relay.exec('node', '--eval', script);
  const read = (name: string): number =>
    Number(new RegExp(`^transit_relay_${name} (\\d+)$`, 'mu').exec(text)?.[1]);
  return { pairs: read('connections_paired') / 2, forwarded: read('connections_forwarding') };
}

/** Kills the relay as a crash does, so that Docker restarts it. Resolves when it is gone. */
async function crash(relay: Container): Promise<void> {
  await using events = relay.watch('die');
  // The end of the container may end this command too.
  await askDocker(['exec', relay.id, 'sh', '-c', 'kill -KILL $(cat /proc/1/task/1/children)']);
  await events.match(/^die$/mu);
}

describe('a cluster of relays with compose', { skip: withoutDocker }, () => {
  const sandbox = new DockerSandbox();
  let project: ComposeProject;
  before(async () => {
    const [relay, haproxy, valkey] = await Promise.all([
      buildImage(),
      buildDebian(['haproxy']),
      buildDebian(['valkey-server', 'valkey-tools']),
    ]);
    const settings = {
      ...SECRETS,
      RELAY_MAX_CONNECTIONS_PER_ADDRESS: String(MAX_PER_ADDRESS),
      RELAY_IMAGE: relay,
      HAPROXY_IMAGE: haproxy,
      VALKEY_IMAGE: valkey,
    };
    project = new ComposeProject({ project: sandbox.name('cluster'), files: FILES, settings });
    await project.run('up', '--detach', '--wait', '--no-build', ...SERVICES);
  });
  after(() => project[Symbol.asyncDispose]());

  test('requires its secrets, and does not start without them', async () => {
    for (const variable of Object.keys(SECRETS)) {
      const settings = { ...SECRETS, [variable]: '' };
      const { code, stderr } = await new ComposeProject({
        project: sandbox.name('no-secrets'),
        files: FILES,
        settings,
      }).ask('config', '--quiet');
      ok(code !== 0, variable);
      match(stderr, new RegExp(`${variable}.*openssl rand -hex 32`, 'u'));
    }
  });

  test('is healthy and hardened, and only HAProxy publishes ports', async () => {
    const fields = ['ReadonlyRootfs', 'CapDrop', 'SecurityOpt', 'RestartPolicy.Name'];
    for (const service of SERVICES) {
      const container = await project.container(service);
      const hardening = fields.map((field) => `{{.HostConfig.${field}}}`).join(' ');
      equal(
        await container.inspect(`{{.State.Health.Status}} ${hardening}`),
        'healthy true [ALL] [no-new-privileges] unless-stopped',
        service,
      );
      ok(Number(await container.inspect('{{.HostConfig.Memory}}')) > 0, service);
      const ports = (await docker('port', container.id)).split('\n').map((line) => line.split(' ', 1)[0]);
      deepEqual(new Set(ports), new Set(service === 'haproxy' ? ['4001/tcp', '4002/tcp'] : ['']), service);
    }
  });

  test('loses only the transfers of a crashed relay, while another relay stops', async () => {
    const [stays, crashes, stops] = await Promise.all([
      project.container('relay'),
      project.container('relay-2'),
      project.container('relay-3'),
    ]);
    const haproxy = await project.container('haproxy');
    const port = await haproxy.port(4001);

    const running = await beginAll(port, RUNNING, 0);
    for (const transfer of running) transfer.sendPart();
    for (const transfer of running) ok(await transfer.arrived(), 'a transfer failed before the crash');
    const loads = await Promise.all([stays, crashes, stops].map((relay) => loadOf(relay)));
    for (const { pairs } of loads) ok(pairs > 0, JSON.stringify(loads));
    // A relay that cannot connect to another one in time, on a busy machine, pairs its clients itself.
    ok((loads[1]?.forwarded ?? 0) > 0, JSON.stringify(loads));
    equal(
      loads.reduce((sum, { pairs }) => sum + pairs, 0),
      RUNNING,
    );

    const stopped = project.run('stop', 'relay-3');
    await stops.waitForLog(/"msg":"draining"/u);
    equal(await countFailed(port, NEW_TRANSFERS, 1_000), 0);
    // From now on HAProxy sends no new client to the stopping relay.
    await haproxy.waitForLog(/relay-3 is DOWN.*code: 503/u);

    const [crashing, draining] = await Promise.all([loadOf(crashes), loadOf(stops)]);
    ok(crashing.pairs > 0 && draining.pairs > 0, 'no transfer is running');
    for (const transfer of running) transfer.sendPart();
    await crash(crashes);
    for (const transfer of running) transfer.sendPart();
    equal(await countFailed(port, NEW_TRANSFERS, 2_000), 0);
    equal(await countBroken(running), crashing.pairs + crashing.forwarded);

    await stopped;
    equal(await stops.inspect('{{.State.ExitCode}}'), '0');
    await project.run('up', '--detach', '--wait', '--no-build', ...SERVICES);
    equal(await crashes.inspect('{{.RestartCount}}'), '1');
    equal(await countFailed(port, NEW_TRANSFERS, 3_000), 0);
  });

  test('counts clients by their address at HAProxy', async (t) => {
    const port = await (await project.container('haproxy')).port(4002);
    const ports = { tcpPort: port, websocketPort: port, unixPath: '' };
    const tooMany = Array.from({ length: RELAYS.length * MAX_PER_ADDRESS + 1 }, () =>
      TestClient.connect('tcp', ports),
    );
    const clients = await Promise.all(tooMany);
    t.after(() => {
      for (const client of clients) client.destroy();
    });
    for (const client of clients) void client.send(handshake(newToken(), SIDE_A));
    const replies = clients.map(async (client) => {
      await client.closed;
      return String(client.received);
    });
    equal(await Promise.race(replies), 'busy\n');
  });

  test('logs no client address', async () => {
    const network = `${sandbox.name('cluster')}_default`;
    const template = '{{range .IPAM.Config}}{{.Gateway}}{{end}}';
    const gateway = await docker('network', 'inspect', '--format', template, network);
    for (const service of SERVICES) {
      const log = await (await project.container(service)).logs();
      equal(log.includes(gateway), false, `${service}: ${log}`);
    }
  });
});
