import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { TRANSPORTS, clusterTest } from '../support/cluster-scenario.ts';
import { Dice } from '../support/dice.ts';
import type { TestClient } from '../support/test-client.ts';
import type { TestCluster } from '../support/test-cluster.ts';

const RELAYS = 3;
const TOKENS = 300;
const MOST_BYTES = 40_000;

/** The clients of one token. */
class Party {
  readonly #cluster: TestCluster;
  readonly #dice: Dice;
  clients = 0;

  constructor(cluster: TestCluster, seed: number) {
    this.#cluster = cluster;
    this.#dice = new Dice(seed);
  }

  /** Two clients are paired; or one of them connects twice, or leaves at any time. */
  async play(): Promise<void> {
    if (this.#dice.happens(0.2)) await this.#leave();
    else await this.#meet(this.#dice.happens(0.25) ? 2 : 1);
  }

  /** So many clients of one side, and one of the other: one pair, and every byte of it. */
  async #meet(count: number): Promise<void> {
    const token = newToken();
    const ones = Array.from({ length: count }, () => this.#come(handshake(token, SIDE_A)));
    const [other, ...others] = await Promise.all([this.#come(handshake(token, SIDE_B)), ...ones]);
    assert.equal((await other.until(3)).toString(), 'ok\n');
    const paired = await Promise.race(others.map((one) => isPaired(one)));
    await this.#exchange(paired, other);
    other.end();
    await Promise.all([paired.closed, other.closed]);
    for (const one of others) {
      if (one === paired) continue;
      // Redundant, or later than the pair: then it has no partner.
      one.end();
      await one.closed;
      assert.equal(one.receivedBytes, 0);
    }
  }

  async #exchange(one: TestClient, other: TestClient): Promise<void> {
    const [fromOne, fromOther] = [this.#bytes(), this.#bytes()];
    await Promise.all([one.sendAll(fromOne, 7000), other.sendAll(fromOther, 30_000)]);
    assert.ok((await one.until(3 + fromOther.length)).subarray(3).equals(fromOther));
    assert.ok((await other.until(3 + fromOne.length)).subarray(3).equals(fromOne));
  }

  /** Two clients, one of which goes at any moment: the other is closed if they have met, and waits if not. */
  async #leave(): Promise<void> {
    const token = newToken();
    const [one, other] = await Promise.all([
      this.#come(handshake(token, SIDE_A)),
      this.#come(handshake(token, SIDE_B)),
    ]);
    await this.#pause();
    one[this.#dice.happens(0.5) ? 'end' : 'reset']();
    await one.closed;
    const third = await this.#come(handshake(token, SIDE_A));
    await Promise.race([third.until(3), other.closed]);
    if (other.receivedBytes === 3 && third.receivedBytes === 3) await this.#exchange(third, other);
    for (const client of [other, third]) {
      client.end();
      await client.closed;
    }
  }

  async #come(line: string): Promise<TestClient> {
    await this.#pause();
    const relay = this.#dice.between(0, RELAYS - 1);
    const transport = TRANSPORTS[this.#dice.between(0, 2)] ?? 'tcp';
    const client = await this.#cluster.member(relay).relay.connect(transport);
    this.clients += 1;
    await client.send(line);
    return client;
  }

  async #pause(): Promise<void> {
    for (let turns = this.#dice.size(100); turns > 1; turns -= 1) await setImmediate();
  }

  #bytes(): Buffer {
    return randomBytesOf(this.#dice.between(0, 2 ** 30), this.#dice.size(MOST_BYTES));
  }
}

/** Resolves when the client has heard `ok`, and never where it does not. */
async function isPaired(client: TestClient): Promise<TestClient> {
  await client.until(3);
  if (client.receivedBytes < 3) await new Promise<never>(() => undefined);
  return client;
}

for (const standardStreams of [false, true]) {
  const backend = standardStreams ? ' with ordinary streams' : '';
  for (const seed of [1, 2]) {
    clusterTest(
      `${TOKENS} pairs over ${RELAYS} relays${backend}, some of them doubled and some left (seed ${seed})`,
      async (cluster) => {
        const parties = Array.from({ length: TOKENS }, (_, at) => new Party(cluster, seed * TOKENS + at));
        await Promise.all(parties.map((party) => party.play()));
        await cluster.untilEmpty();
        // Each client has one record, at whichever relay: its own, or the one that it was passed on to.
        const notifications = cluster.summaries.flatMap(({ transports }) => transports);
        assert.equal(
          notifications.length,
          parties.reduce((sum, { clients }) => sum + clients, 0),
        );
        assert.equal(cluster.summaries.filter(({ mood }) => mood === 'happy').length, TOKENS);
        assert.ok(cluster.members.every(({ connects: calls }) => calls > 0));
      },
      { relays: RELAYS, standardStreams },
    );
  }
}
