import assert from 'node:assert/strict';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import type { Dice } from '../support/dice.ts';
import { TestClient } from '../support/test-client.ts';
import type { Addresses } from '../support/test-client.ts';

export const OK = 'ok\n';

const TRANSPORTS = ['tcp', 'websocket'] as const;

/** Creates clients of all kinds, and closes those that are left. */
export class SoakClients {
  readonly #addresses: Addresses;
  readonly #clients = new Set<TestClient>();

  constructor(tcpPort: number, websocketPort: number) {
    this.#addresses = { tcpPort, websocketPort, unixPath: '' };
  }

  /** Connects a client with a random transport, and sends `text`. */
  async connect(random: Dice, text = ''): Promise<TestClient> {
    const transport = TRANSPORTS[random.between(0, 1)] ?? 'tcp';
    const client = await TestClient.connect(transport, this.#addresses);
    this.#clients.add(client);
    void client.closed.then(() => this.#clients.delete(client));
    if (text !== '') await client.send(text);
    return client;
  }

  /** Two paired clients, which have received `ok`. */
  async pair(random: Dice): Promise<readonly [TestClient, TestClient]> {
    const token = newToken();
    // At the same time, so that the first one does not reach the wait timeout on a busy machine.
    const [first, second] = await Promise.all([
      this.connect(random, handshake(token, SIDE_A)),
      this.connect(random, handshake(token, SIDE_B)),
    ]);
    await Promise.all([expectReply(first, OK), expectReply(second, OK)]);
    return [first, second];
  }

  /** Closes all remaining clients. */
  clear(): void {
    for (const client of this.#clients) client.destroy();
  }
}

/** Rejects unless the client receives exactly `reply` next. */
export async function expectReply(client: TestClient, reply: string): Promise<void> {
  const received = await client.until(reply.length);
  assert.equal(received.toString('latin1', 0, reply.length), reply);
}

/** Resolves when the relay has closed a client cleanly, after exactly `reply`. */
export async function expectClosed(client: TestClient, reply = ''): Promise<void> {
  const { reset } = await client.closed;
  assert.deepEqual({ reset, reply: client.received.toString('latin1') }, { reset: false, reply });
}
