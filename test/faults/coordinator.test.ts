import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../support/listening.ts';
import { HostileRedis, honest } from '../support/hostile-redis.ts';
import type { Answer } from '../support/hostile-redis.ts';
import { scrape } from '../support/metrics.ts';
import { vitalsOf } from '../support/vitals.ts';
import { StrickenRelay } from './stricken-relay.ts';
import { Bystander, reportAttack } from './support/bystander.ts';

/** How long each attack lasts, in milliseconds: some reconnections of the relay. */
const ATTACK_MS = 2000;

/** What a relay may need more, in MiB: garbage of what it has read, and of the bystander's pairs. */
const MOST_GROWTH_MIB = 64;

/** An order of magnitude above what a machine shows that does other work meanwhile. */
const MOST_STALL_MS = 1000;

/** In which the relay comes back to a coordinator that is well again, in milliseconds. */
const RETURN_MS = 12_000;

/** What it answers to what a relay asks once it is logged in. `test/cluster/resp.test.ts` has more. */
const ATTACKS: readonly (readonly [name: string, answer: ReturnType<Answer>])[] = [
  ['arrays of 33 million elements in arrays', '*33000000\r\n'.repeat(20)],
  ['a string of 1 GiB', { head: '$1073741824\r\n', piece: Buffer.alloc(65_536, 'a') }],
  ['an array without an end', { head: '*1000000000\r\n', piece: Buffer.from(':1\r\n'.repeat(16_384)) }],
  ['an array instead of a string', '*3\r\n$0\r\n\r\n:0\r\n*0\r\n'],
];

describe('a coordinator that is hostile', () => {
  test('costs the relay neither memory nor time, whatever it answers', async (context) => {
    const redis = await HostileRedis.start(context);
    const statusPort = await freePort();
    const status = `http://127.0.0.1:${statusPort}`;
    await using relay = await StrickenRelay.start({
      RELAY_STATUS_LISTEN: `tcp:${statusPort}:interface=127.0.0.1`,
      RELAY_CLUSTER_URL: redis.url,
      RELAY_CLUSTER_LISTEN: 'tcp:0:interface=127.0.0.1',
      RELAY_CLUSTER_SECRET: 'the secret of a cluster',
    });
    await using bystander = await Bystander.start({ port: relay.port });
    const isUp = async (): Promise<boolean> => (await scrape(status)).get('transit_relay_cluster_up') === 1;
    await upWithin(isUp);
    const idle = await bystander.measure(1000);
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
      assert.ok(peak - before < MOST_GROWTH_MIB, `${peak - before} MiB more: ${name}`);
      assert.ok(during.maxMs < MOST_STALL_MS, `a round trip of ${during.maxMs} ms: ${name}`);
      assert.equal(during.newPairsFailed, 0);
      await upWithin(isUp);
    }
    await bystander.finish();
    await relay.stop();
  });
});

async function upWithin(isUp: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + RETURN_MS;
  while (!(await isUp())) {
    assert.ok(performance.now() < deadline, 'the relay has not come back to the coordinator');
    await sleep(50);
  }
}
