import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { scrape } from '../../support/metrics.ts';
import { CONDITION_TIMEOUT_MS } from '../../support/programs.ts';
import type { RedisServer } from '../../support/redis.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { TestClient } from '../../support/test-client.ts';

export const SECRET = 'the secret of all relays in these tests';
const ANY = 'tcp:0:interface=127.0.0.1';

/** A cluster of relay processes with one coordinator. */
export class ProcessCluster implements AsyncDisposable {
  readonly relays: RelayProcess[] = [];
  readonly #settings: Readonly<Record<string, string>>;

  constructor(redis: RedisServer, settings: Readonly<Record<string, string>> = {}) {
    this.#settings = {
      RELAY_WEBSOCKET_LISTEN: ANY,
      RELAY_CLUSTER_URL: redis.url,
      RELAY_CLUSTER_LISTEN: ANY,
      RELAY_CLUSTER_SECRET: SECRET,
      RELAY_DRAIN_DELAY: '0s',
      ...settings,
    };
  }

  async add(settings: Readonly<Record<string, string>> = {}): Promise<RelayProcess> {
    const relay = await RelayProcess.start({ ...this.#settings, ...settings });
    this.relays.push(relay);
    await relay.waitForLog(/coordinator is up/u);
    return relay;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const relay of this.relays) {
      // A drain would wait for transfers of clients that are closed later.
      relay.kill('SIGKILL');
      await relay[Symbol.asyncDispose]();
    }
  }
}

export async function leaseKeysOf(redis: RedisServer): Promise<string[]> {
  const admin = await redis.admin();
  // Relays test the coordinator with this key.
  return (await admin.keys('*')).filter((key) => key !== 'transit-relay:test');
}

export function connectClient(
  context: TestContext,
  relay: RelayProcess,
  transport: 'tcp' | 'websocket' = 'tcp',
): Promise<TestClient> {
  const addresses = {
    tcpPort: relay.port('raw'),
    unixPath: '',
    websocketPort: transport === 'websocket' ? relay.port('websocket') : 0,
  };
  return TestClient.connect(transport, addresses).then((client) => {
    context.after(() => client.destroy());
    return client;
  });
}

export async function metric(relay: RelayProcess, name: string): Promise<number> {
  const metrics = await scrape(`http://127.0.0.1:${relay.port('status')}`);
  const found = metrics.get(`transit_relay_${name}`);
  assert.ok(found !== undefined, `there is no ${name}`);
  return found;
}

export async function untilMetric(relay: RelayProcess, name: string, expected: number): Promise<void> {
  for (const deadline = performance.now() + CONDITION_TIMEOUT_MS; (await metric(relay, name)) !== expected;) {
    assert.ok(performance.now() < deadline, `${name} is ${await metric(relay, name)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export async function startWaitingClient(
  context: TestContext,
  relay: RelayProcess,
  token: string,
): Promise<TestClient> {
  const before = await metric(relay, 'connections_waiting');
  const client = await connectClient(context, relay);
  await client.send(handshake(token, SIDE_A));
  await untilMetric(relay, 'connections_waiting', before + 1);
  return client;
}

/**
 * Two clients of one token at two relays: the first relay is the owner, the other one forwards its client.
 */
export async function pairAcrossRelays(
  context: TestContext,
  one: RelayProcess,
  other: RelayProcess,
): Promise<readonly [TestClient, TestClient]> {
  const token = newToken();
  const a = await startWaitingClient(context, one, token);
  await untilMetric(one, 'cluster_leases', 1);
  const b = await connectClient(context, other);
  await b.send(handshake(token, SIDE_B));
  return [a, b];
}

/** Checks that both clients get `ok` and that each receives exactly the bytes that the other one sends. */
export async function transfer(a: TestClient, b: TestClient, size = 100_000): Promise<void> {
  // A client that sends bytes earlier is impatient.
  await Promise.all([a.until(3), b.until(3)]);
  const [fromA, fromB] = [randomBytesOf(1, size), randomBytesOf(2, size)];
  await Promise.all([a.sendAll(fromA, 65_536), b.sendAll(fromB, 65_536)]);
  const [receivedByA, receivedByB] = await Promise.all([a.until(size + 3), b.until(size + 3)]);
  assert.ok(receivedByA.equals(Buffer.concat([Buffer.from('ok\n'), fromB])));
  assert.ok(receivedByB.equals(Buffer.concat([Buffer.from('ok\n'), fromA])));
}
