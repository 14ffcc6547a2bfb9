import { equal, ok } from 'node:assert/strict';
import type { TransportKind } from '../../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, SIDE_C, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { TestClient } from '../../support/test-client.ts';
import type { Addresses } from '../../support/test-client.ts';

const OK_REPLY = 'ok\n';

/** More than one read and one WebSocket message. */
const PIECE_BYTES = 60_000;

/** Counts that the relay should have. */
export interface Counted {
  readonly accepted: Map<TransportKind, number>;
  readonly ended: Map<string, number>;
  /** By source and destination transport, as `tcp unix`. */
  readonly relayedBytes: Map<string, number>;
  pairs: number;
  rejected: number;
}

/** Runs clients of every kind at a relay with few waiting slots, and counts what the relay should report. */
export class Traffic {
  readonly counted: Counted = {
    accepted: new Map(),
    ended: new Map(),
    relayedBytes: new Map(),
    pairs: 0,
    rejected: 0,
  };
  readonly #addresses: Addresses;
  readonly #waitingNow: () => Promise<number>;

  /** @param waitingNow waiting clients according to the relay */
  constructor(addresses: Addresses, waitingNow: () => Promise<number>) {
    this.#addresses = addresses;
    this.#waitingNow = waitingNow;
  }

  /** Pairs two clients, which exchange these numbers of bytes and disconnect. */
  async pair(
    first: TransportKind,
    second: TransportKind,
    thereBytes: number,
    backBytes: number,
  ): Promise<void> {
    const [a, b] = await this.#paired(first, second);
    await Promise.all([
      this.#transfer(a, b, randomBytesOf(1, thereBytes)),
      this.#transfer(b, a, randomBytesOf(2, backBytes)),
    ]);
    await this.#disconnect(a, b);
  }

  /** Relays a pair whose receiver does not read until the sender is blocked. */
  async stalledPair(bytes: number): Promise<void> {
    const [a, b] = await this.#paired('tcp', 'tcp');
    b.pause();
    const sent = this.#transfer(a, b, randomBytesOf(3, bytes));
    let unsent = -1;
    while (a.unsentBytes === 0 || a.unsentBytes !== unsent) {
      unsent = a.unsentBytes;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    b.resume();
    await sent;
    await this.#disconnect(a, b);
  }

  /** Runs a TCP client for each mood that ends without a pair. */
  async moods(): Promise<void> {
    const errory = await this.#client('tcp');
    await errory.send('please hold\n');
    await errory.closed;
    this.#count(this.counted.ended, 'errory');

    const empty = await this.#client('tcp');
    await empty.leave();
    this.#count(this.counted.ended, 'empty');

    const impatient = await this.#client('tcp');
    await impatient.send(`${handshake(newToken(), SIDE_A)}too early`);
    await impatient.closed;
    this.#count(this.counted.ended, 'impatient');

    const token = newToken();
    const redundant = await this.#waiting(token, SIDE_A);
    const first = await this.#waiting(token, SIDE_A);
    // The relay may process the connections in any order.
    while ((await this.#waitingNow()) !== 2);
    const second = await this.#client('websocket');
    await second.send(handshake(token, SIDE_B));
    const pair = [redundant, first].map((client) => client.until(OK_REPLY.length).then(String));
    await second.until(OK_REPLY.length);
    equal((await Promise.all(pair)).join(''), OK_REPLY);
    this.#count(this.counted.ended, 'redundant');
    this.counted.pairs += 1;
    await this.#disconnect(redundant.isClosed ? first : redundant, second);
  }

  /** Fills the limit of waiting clients, plus one client that is rejected. Then all disconnect. */
  async fillWaiting(maxWaiting: number): Promise<void> {
    const clients: TestClient[] = [];
    while (clients.length <= maxWaiting) {
      const client = await TestClient.connect('tcp', this.#addresses);
      await client.send(handshake(newToken(), SIDE_C));
      clients.push(client);
    }
    // The relay may reject any of them, depending on its order of processing.
    await Promise.race(clients.map((client) => client.closed));
    const [rejected, ...others] = clients.toSorted((a, b) => Number(b.isClosed) - Number(a.isClosed));
    equal(String(rejected?.received), 'busy\n');
    this.counted.rejected += 1;
    for (const client of others) {
      await client.leave();
      this.#count(this.counted.accepted, 'tcp');
      this.#count(this.counted.ended, 'lonely');
    }
  }

  async #paired(first: TransportKind, second: TransportKind): Promise<[TestClient, TestClient]> {
    const token = newToken();
    const a = await this.#client(first);
    const b = await this.#client(second);
    await a.send(handshake(token, SIDE_A));
    await b.send(handshake(token, SIDE_B));
    for (const client of [a, b]) equal(String(await client.until(OK_REPLY.length)), OK_REPLY);
    this.counted.pairs += 1;
    return [a, b];
  }

  async #transfer(from: TestClient, to: TestClient, bytes: Buffer): Promise<void> {
    await from.sendAll(bytes, PIECE_BYTES);
    const received = await to.until(OK_REPLY.length + bytes.length);
    ok(received.subarray(OK_REPLY.length).equals(bytes), `${received.length} bytes arrived`);
    this.#count(this.counted.relayedBytes, `${from.transport} ${to.transport}`, bytes.length);
  }

  async #disconnect(a: TestClient, b: TestClient): Promise<void> {
    a.end();
    b.end();
    await Promise.all([a.closed, b.closed]);
    this.#count(this.counted.ended, 'happy', 2);
  }

  async #client(transport: TransportKind): Promise<TestClient> {
    const client = await TestClient.connect(transport, this.#addresses);
    this.#count(this.counted.accepted, transport);
    return client;
  }

  async #waiting(token: string, side: string): Promise<TestClient> {
    const client = await this.#client('tcp');
    await client.send(handshake(token, side));
    return client;
  }

  #count<K>(counts: Map<K, number>, key: K, more = 1): void {
    counts.set(key, (counts.get(key) ?? 0) + more);
  }
}
