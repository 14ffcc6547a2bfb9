import { equal, rejects } from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { KEY_PREFIX } from '../../../src/cluster/coordinator-client.ts';
import { RELEASE, RENEW, SCRIPTS, TAKE_OVER } from '../../../src/cluster/lease-store.ts';
import type { TransportKind } from '../../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { ClientPair } from '../../support/docker-clients.ts';
import { DockerSandbox, LISTENING, withoutDocker } from '../../support/docker.ts';
import type { Container } from '../../support/docker.ts';
import { buildDebian, buildImage } from '../../support/docker-images.ts';
import { scratch } from '../../support/scratch.ts';
import { TestClient } from '../../support/test-client.ts';
import { buildOwn, withoutKubectl } from './kustomize.ts';
import { Manifests } from './manifests.ts';
import { SECRET } from './operator-secrets.ts';
import { Pod } from './pod.ts';

const needsRoot =
  process.getuid?.() === 0 ? false : 'needs root, to change the owner of volumes: run it with sudo';

const PAIRED = 'ok\n';
const SHUTTING_DOWN = 'shutting down\n';

const COORDINATOR_UP = /"msg":"coordinator is up/u;
const COORDINATOR_DOWN = /"msg":"coordinator is down/u;
const COORDINATOR_BACK = /"coordinator is down[^]*"msg":"coordinator is up/u;

interface Relay {
  readonly pod: Pod;
  readonly container: Container;
}

interface PodCluster extends AsyncDisposable {
  readonly valkey: Pod;
  readonly relays: readonly [Relay, Relay, Relay];
}

interface Images {
  readonly relay: string;
  readonly valkey: string;
}

/** Starts the pods of a cluster on their own network. The coordinator is created but not started. */
async function startCluster(t: TestContext, manifests: Manifests, images: Images): Promise<PodCluster> {
  await using stack = new AsyncDisposableStack();
  const network = await stack.use(new DockerSandbox()).network();
  const directory = await scratch(t);
  const [relays, valkeys] = manifests.workloads;
  const create = async (name: string, image: string, workload: typeof relays): Promise<Pod> => {
    mkdirSync(join(directory, name));
    const options = { image, directory: join(directory, name), network };
    return stack.use(
      await Pod.create(manifests, workload === undefined ? options : { ...options, workload }),
    );
  };
  const valkey = await create('valkey', images.valkey, valkeys);
  const start = async (name: string): Promise<Relay> => {
    const pod = await create(name, images.relay, relays);
    const container = await pod.start('relay');
    await container.waitForLog(LISTENING);
    return { pod, container };
  };
  const started = await Promise.all([start('relay-0'), start('relay-1'), start('relay-2')] as const);
  const all = stack.move();
  return { valkey, relays: started, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

async function connectTo({ pod }: Relay, transport: TransportKind, line: string): Promise<TestClient> {
  const ports = { tcpPort: await pod.port('raw'), websocketPort: await pod.port('websocket') };
  const client = await TestClient.connect(transport, { ...ports, unixPath: '' });
  await client.send(line);
  return client;
}

/** How many links to other relays this relay has attempted. */
async function linkAttempts({ pod }: Relay): Promise<number> {
  const metrics = await (await pod.ask('status', '/metrics')).text();
  return Number(/^transit_relay_cluster_link_attempts_total (\d+)$/mu.exec(metrics)?.[1]);
}

/** Connects two clients of one token to these relays, pairs them, and exchanges that many bytes. */
async function expectPair(relays: readonly [Relay, Relay], count: number): Promise<void> {
  const token = newToken();
  await using pair = new ClientPair(
    await connectTo(relays[0], 'tcp', handshake(token, SIDE_A)),
    await connectTo(relays[1], 'websocket', handshake(token, SIDE_B)),
  );
  for (const client of [pair.first, pair.second]) equal(String(await client.until(PAIRED.length)), PAIRED);
  await pair.exchange(count);
}

describe(
  'the pods of a cluster',
  { skip: withoutKubectl || withoutDocker || needsRoot, concurrency: true },
  () => {
    let images: Images = { relay: '', valkey: '' };
    let manifests = new Manifests('');
    before(async () => {
      const [relay, valkey] = await Promise.all([
        buildImage(),
        // Debian's Valkey instead of its own image.
        buildDebian(['valkey-server', 'valkey-tools']),
      ]);
      images = { relay, valkey };
      // Clients that are not paired time out and fail the test.
      const literals = ['RELAY_WAIT_TIMEOUT=2m'];
      manifests = await buildOwn({
        resources: ['overlays/cluster'],
        configMapGenerator: [{ name: 'transit-relay', behavior: 'merge', literals }],
      });
    });

    test('pair clients of different relays, also after a loss of Valkey', async (t) => {
      await using cluster = await startCluster(t, manifests, images);
      const [first, second, third] = cluster.relays;
      const lost = await cluster.valkey.start('valkey');
      for (const { container } of cluster.relays) await container.waitForLog(COORDINATOR_UP);
      for (const pair of [
        [first, second],
        [second, third],
        [third, first],
      ] as const)
        await expectPair(pair, 100_000);
      // Whichever client is handled first waits at its relay; the other one is forwarded there.
      const attempts = await Promise.all(cluster.relays.map(linkAttempts));
      equal(
        attempts.reduce((sum, each) => sum + each),
        3,
      );
      // The preStop command that the kubelet runs before SIGTERM.
      const preStop = manifests.container('relay').at('lifecycle', 'preStop', 'exec', 'command');
      await first.container.exec(preStop.at(0).word, '0');

      await lost.signal('KILL');
      for (const { pod, container } of cluster.relays) {
        await container.waitForLog(COORDINATOR_DOWN);
        equal((await pod.ask('status', '/readyz')).status, 200);
      }
      await expectPair([first, first], 1000);
      const token = newToken();
      await using pair = new ClientPair(
        await connectTo(first, 'tcp', handshake(token, SIDE_A)),
        await connectTo(second, 'tcp', handshake(token, SIDE_B)),
      );
      await cluster.valkey.start('valkey');
      for (const { container } of cluster.relays) await container.waitForLog(COORDINATOR_BACK);
      for (const client of [pair.first, pair.second])
        equal(String(await client.until(PAIRED.length)), PAIRED);
      await pair.exchange(1000);
    });

    test('accept partners at other relays while one is deleted, and finish its transfers', async (t) => {
      await using cluster = await startCluster(t, manifests, images);
      const [stopping, second, third] = cluster.relays;
      await cluster.valkey.start('valkey');
      for (const { container } of cluster.relays) await container.waitForLog(COORDINATOR_UP);
      const [token, other] = [newToken(), newToken()];
      const waiting = await connectTo(stopping, 'tcp', handshake(token, SIDE_A));
      const unpaired = await connectTo(stopping, 'tcp', handshake(other, SIDE_A));
      const isLeased = async (): Promise<boolean> =>
        /^transit_relay_cluster_leases 2$/mu.test(
          await (await stopping.pod.ask('status', '/metrics')).text(),
        );
      while (!(await isLeased()));

      const stopped = stopping.container.stop(manifests.pod.at('terminationGracePeriodSeconds').number ?? 30);
      // Awaited below. Until then, an earlier failure must be reported first.
      stopped.catch(() => undefined);
      await stopping.container.waitForLog(/"msg":"draining"/u);
      // The Service leads to the other relays now.
      const pair = new ClientPair(waiting, await connectTo(second, 'websocket', handshake(token, SIDE_B)));
      for (const client of [pair.first, pair.second])
        equal(String(await client.until(PAIRED.length)), PAIRED);
      equal(String(await unpaired.until(SHUTTING_DOWN.length)), SHUTTING_DOWN);
      await unpaired.closed;
      await using again = new ClientPair(
        await connectTo(third, 'tcp', handshake(other, SIDE_A)),
        await connectTo(second, 'tcp', handshake(other, SIDE_B)),
      );
      for (const client of [again.first, again.second])
        equal(String(await client.until(PAIRED.length)), PAIRED);
      await again.exchange(1000);
      await pair.exchange(100_000);
      await pair[Symbol.asyncDispose]();
      equal(await stopped, 0);
    });

    test('have a Valkey that accepts only relays, with only the commands that they need', async (t) => {
      const [, workload] = manifests.workloads;
      const directory = await scratch(t);
      if (workload === undefined) throw new Error('there is no Valkey');
      await using pod = await Pod.create(manifests, { image: images.valkey, directory, workload });
      const valkey = await pod.start('valkey');
      await valkey.waitForLog(/Ready to accept connections/u);
      equal(await pod.probe('valkey', valkey), 'PONG');

      const probe = workload.container('valkey').at('livenessProbe', 'exec', 'command').items;
      const ping = probe.map((word) => word.word);
      await rejects(valkey.exec('env', 'REDISCLI_AUTH=wrong', ...ping), /WRONGPASS/u);
      await rejects(valkey.exec('env', '--unset=REDISCLI_AUTH', 'valkey-cli', '-e', 'ping'), /NOAUTH/u);

      const ask = (...words: readonly string[]): Promise<string> =>
        valkey.exec('valkey-cli', '-e', '--user', 'relay', ...words);
      // All commands of a relay, including those in scripts.
      const key = `${KEY_PREFIX}x`;
      equal(await ask('set', key, 'ours', 'NX', 'GET', 'PX', '30000'), '');
      for (const { source, sha1 } of SCRIPTS) equal(await ask('script', 'load', source), sha1);
      equal(await ask('evalsha', TAKE_OVER.sha1, '1', key, 'theirs', 'ours', '30000'), '');
      equal(await ask('evalsha', RENEW.sha1, '1', key, 'theirs', '30000'), '');
      equal(await ask('evalsha', RELEASE.sha1, '1', key, 'theirs'), '');
      equal(await ask('get', key), '');
      equal(await ask('evalsha', RENEW.sha1, '1', key, 'ours', '30000'), '');
      equal(await ask('get', key), 'ours');
      for (const words of [
        ['set', 'another:x', '1'],
        ['config', 'get', 'requirepass'],
        ['client', 'list'],
        ['keys', `${KEY_PREFIX}*`],
        ['flushall'],
        ['eval', 'return 1', '0'],
      ])
        await rejects(ask(...words), /NOPERM/u, words.join(' '));
      for (const shown of [await valkey.logs(), await valkey.exec('cat', '/proc/1/cmdline')])
        equal(shown.includes(SECRET), false, 'the password is visible');
      // SIGTERM reaches Valkey itself, not a shell that waits for it.
      equal(await valkey.stop(20), 0);
    });
  },
);
