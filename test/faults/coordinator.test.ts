import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HostileRedis, bulk, honest } from '../support/hostile-redis.ts';
import type { Answer } from '../support/hostile-redis.ts';
import { scrape } from '../support/metrics.ts';
import { until } from '../support/scratch.ts';
import { vitalsOf } from '../support/vitals.ts';
import { ANY_LOOPBACK_PORT, RelayUnderTest, pair, transfer } from './relay-under-test.ts';
import { Bystander, reportAttack } from './support/bystander.ts';

/** Duration of each attack, in milliseconds: several reconnections of the relay. */
const ATTACK_MS = 1000;

/** Additional memory that a relay may use, in MiB: garbage of what it read, and of the bystander's pairs. */
const MAX_GROWTH_MIB = 64;

/** An order of magnitude above the values on a busy machine. */
const MAX_STALL_MS = 1000;

const ADDRESS_FAILURES = 'cluster_link_failures_total{kind="address"}';

/** Replies to the commands of a relay once it is logged in. `test/unit/cluster/resp.test.ts` has more. */
const ATTACKS: readonly (readonly [name: string, answer: ReturnType<Answer>])[] = [
  ['arrays of 33 million elements in arrays', '*33000000\r\n'.repeat(20)],
  ['a string of 1 GiB', { head: '$1073741824\r\n', piece: Buffer.alloc(65_536, 'a') }],
  ['an endless array', { head: '*1000000000\r\n', piece: Buffer.from(':1\r\n'.repeat(16_384)) }],
  ['an array instead of a string', '*3\r\n$0\r\n\r\n:0\r\n*0\r\n'],
];

/** Commands that relays use to probe a coordinator. */
const TEST_KEY = 'transit-relay:test';

describe('a hostile coordinator', { concurrency: true }, () => {
  test('causes neither memory growth nor delays, whatever it replies', async (context) => {
    const redis = await HostileRedis.start(context);
    await using relay = await RelayUnderTest.start({
      RELAY_STATUS_LISTEN: ANY_LOOPBACK_PORT,
      RELAY_CLUSTER_URL: redis.url,
      RELAY_CLUSTER_LISTEN: 'tcp:0:interface=127.0.0.1',
      RELAY_CLUSTER_SECRET: 'the secret of a cluster',
    });
    const status = await relay.statusUrl();
    await using bystander = await Bystander.start({ port: relay.port, pid: relay.pid });
    const isUp = async (): Promise<boolean> => (await scrape(status)).get('transit_relay_cluster_up') === 1;
    await until(isUp);
    const idle = await bystander.measureUndisturbed();
    for (const [name, answer] of ATTACKS) {
      const before = vitalsOf(relay.pid).residentMiB;
      const { connections, sentBytes } = redis;
      let peak = before;
      const during = await bystander.measureWhile(async () => {
        redis.answer = (command) => (command[0] === 'SET' ? answer : honest(command));
        for (const end = performance.now() + ATTACK_MS; performance.now() < end; await sleep(20))
          peak = Math.max(peak, vitalsOf(relay.pid).residentMiB);
        redis.answer = honest;
      });
      reportAttack(
        context,
        `coordinator: ${name}`,
        idle,
        during,
        `RSS MiB ${before.toFixed(0)} / ${peak.toFixed(0)}`,
        `${redis.connections - connections} connections`,
        `${((redis.sentBytes - sentBytes) / 2 ** 20).toFixed(1)} MiB sent`,
      );
      assert.ok(peak - before < MAX_GROWTH_MIB, `the relay grew by ${peak - before} MiB: ${name}`);
      assert.ok(during.stallMs < MAX_STALL_MS, `a round trip of ${during.stallMs} ms: ${name}`);
      assert.equal(during.newPairsFailed, 0);
      await until(isUp);
    }
    await bystander.finish();
    await relay.stop();
  });

  test('cannot make the relay connect to an address outside of RELAY_CLUSTER_NETWORKS, and clients are still paired', async (context) => {
    const redis = await HostileRedis.start(context);
    let connections = 0;
    const victim = createServer();
    victim.on('connection', () => (connections += 1));

    const port = await listenOnSecondLoopback(context, victim);
    await using relay = await RelayUnderTest.start({
      RELAY_STATUS_LISTEN: ANY_LOOPBACK_PORT,
      RELAY_CLUSTER_URL: redis.url,
      RELAY_CLUSTER_LISTEN: 'tcp:0:interface=127.0.0.1',
      RELAY_CLUSTER_SECRET: 'the secret of a cluster',
      RELAY_CLUSTER_NETWORKS: '127.0.0.1 10.0.0.0/8',
    });
    const status = await relay.statusUrl();
    const figure = async (series: string): Promise<number> =>
      (await scrape(status)).get(`transit_relay_${series}`) ?? NaN;
    await until(async () => (await figure('cluster_up')) === 1);
    await using bystander = await Bystander.start({ port: relay.port, pid: relay.pid });
    const idle = await bystander.measureUndisturbed();
    // A relay at a forbidden address owns all tokens. Takeovers succeed.
    redis.answer = (command) =>
      command[0] === 'SET' && command[1] !== TEST_KEY
        ? bulk(`1 some-relay 127.0.0.2:${port}`)
        : honest(command);
    const during = await bystander.measureUntil(
      async ({ seconds, newPairs }) =>
        seconds * 1000 >= ATTACK_MS && newPairs > 0 && (await figure(ADDRESS_FAILURES)) > 0,
    );
    redis.answer = honest;
    reportAttack(
      context,
      'coordinator: an address outside',
      idle,
      during,
      `${connections} connections there`,
    );
    assert.equal(connections, 0);
    assert.ok((await figure(ADDRESS_FAILURES)) > 0);
    assert.equal(during.newPairsFailed, 0);
    assert.ok(during.newPairs > 0);
    await relay.waitForLog(/"failure":"address".*could not connect to another relay/u);
    await bystander.finish();
    await relay.stop();
  });

  test('that reports invalid addresses is ignored like a relay of another version, and clients are paired', async (context) => {
    const redis = await HostileRedis.start(context);
    await using relay = await RelayUnderTest.start({
      RELAY_CLUSTER_URL: redis.url,
      RELAY_CLUSTER_LISTEN: 'tcp:0:interface=127.0.0.1',
      RELAY_CLUSTER_SECRET: 'the secret of a cluster',
    });
    await relay.waitForLog(/coordinator is up/u);
    for (const address of ['169.254.169.254', '0:4004', '2130706433:80', 'x\u0000y:1', '[::1:80', '%0a:80']) {
      redis.answer = (command) =>
        command[0] === 'SET' && command[1] !== TEST_KEY ? bulk(`1 some-relay ${address}`) : honest(command);
      const [one, other] = await pair(relay.port);
      await transfer([one, other], 1000);
    }
    assert.doesNotMatch(relay.log, /could not connect to another relay/u);
    await relay.stop();
  });
});

/** Listens on a loopback address other than 127.0.0.1. Returns the port. */
async function listenOnSecondLoopback(context: TestContext, server: Server): Promise<number> {
  server.listen(0, '127.0.0.2');
  await once(server, 'listening');
  context.after(() => server.close());
  const address = server.address();
  return typeof address === 'object' ? (address?.port ?? 0) : 0;
}
