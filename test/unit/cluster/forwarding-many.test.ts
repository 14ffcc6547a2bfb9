import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { clusterTest } from './cluster-scenario.ts';
import { TRANSPORTS } from '../../support/test-client.ts';
import { Dice } from '../../support/dice.ts';
import type { TestClient } from '../../support/test-client.ts';
import type { TestCluster } from '../../support/test-cluster.ts';

const RELAYS = 3;
const TOKENS = 150;
const MAX_BYTES = 40_000;

/** The clients of one token. */
class TokenScenario {
  readonly #cluster: TestCluster;
  readonly #random: Dice;
  clients = 0;

  constructor(cluster: TestCluster, seed: number) {
    this.#cluster = cluster;
    this.#random = new Dice(seed);
  }

  /** Pairs two clients. One of them may connect twice, or disconnect at any time. */
  async run(): Promise<void> {
    if (this.#random.happens(0.2)) await this.#leave();
    else await this.#pair(this.#random.happens(0.25) ? 2 : 1);
  }

  /**
   * Connects `count` clients of one side and one of the other. Checks that there is one pair and that its
   * bytes are complete.
   */
  async #pair(count: number): Promise<void> {
    const token = newToken();
    const sameSide = Array.from({ length: count }, () => this.#connect(handshake(token, SIDE_A)));
    const [other, ...others] = await Promise.all([this.#connect(handshake(token, SIDE_B)), ...sameSide]);
    assert.equal((await other.until(3)).toString(), 'ok\n');
    const paired = await Promise.race(others.map((one) => isPaired(one)));
    await this.#exchange(paired, other);
    other.end();
    await Promise.all([paired.closed, other.closed]);
    for (const one of others) {
      if (one === paired) continue;
      // It was redundant, or connected after the pair and has no partner.
      await one.leave();
      assert.equal(one.receivedBytes, 0);
    }
  }

  async #exchange(one: TestClient, other: TestClient): Promise<void> {
    const [fromOne, fromOther] = [this.#bytes(), this.#bytes()];
    await Promise.all([one.sendAll(fromOne, 7000), other.sendAll(fromOther, 30_000)]);
    assert.ok((await one.until(3 + fromOther.length)).subarray(3).equals(fromOther));
    assert.ok((await other.until(3 + fromOne.length)).subarray(3).equals(fromOne));
  }

  /**
   * Connects two clients, one of which disconnects at any time. The other one is closed if they were paired,
   * and waits if not.
   */
  async #leave(): Promise<void> {
    const token = newToken();
    const [one, other] = await Promise.all([
      this.#connect(handshake(token, SIDE_A)),
      this.#connect(handshake(token, SIDE_B)),
    ]);
    await this.#pause();
    one[this.#random.happens(0.5) ? 'end' : 'reset']();
    await one.closed;
    const third = await this.#connect(handshake(token, SIDE_A));
    await Promise.race([third.until(3), other.closed]);
    if (other.receivedBytes === 3 && third.receivedBytes === 3) await this.#exchange(third, other);
    for (const client of [other, third]) {
      await client.leave();
    }
  }

  async #connect(line: string): Promise<TestClient> {
    await this.#pause();
    const relay = this.#random.between(0, RELAYS - 1);
    const transport = TRANSPORTS[this.#random.between(0, 2)] ?? 'tcp';
    const client = await this.#cluster.member(relay).relay.connect(transport);
    this.clients += 1;
    await client.send(line);
    return client;
  }

  async #pause(): Promise<void> {
    for (let turns = this.#random.size(100); turns > 1; turns -= 1) await setImmediate();
  }

  #bytes(): Buffer {
    return randomBytesOf(this.#random.between(0, 2 ** 30), this.#random.size(MAX_BYTES));
  }
}

/** Resolves when the client has received `ok`; never resolves if it does not. */
async function isPaired(client: TestClient): Promise<TestClient> {
  await client.until(3);
  if (client.receivedBytes < 3) await new Promise<never>(() => undefined);
  return client;
}

for (const standardStreams of [false, true]) {
  const backend = standardStreams ? ' with ordinary streams' : '';
  for (const seed of [1, 2]) {
    clusterTest(
      `pairs the clients of ${TOKENS} tokens at ${RELAYS} relays${backend} while others reconnect or disconnect (seed ${seed})`,
      async (cluster) => {
        const scenarios = Array.from(
          { length: TOKENS },
          (_, index) => new TokenScenario(cluster, seed * TOKENS + index),
        );
        await Promise.all(scenarios.map((scenario) => scenario.run()));
        await cluster.untilEmpty();
        // Each client has one record, at its own relay or at the owner.
        const recordedTransports = cluster.summaries.flatMap(({ transports }) => transports);
        assert.equal(
          recordedTransports.length,
          scenarios.reduce((sum, { clients }) => sum + clients, 0),
        );
        assert.equal(cluster.summaries.filter(({ mood }) => mood === 'happy').length, TOKENS);
        assert.ok(cluster.members.every(({ connects }) => connects > 0));
      },
      { relays: RELAYS, standardStreams },
    );
  }
}
