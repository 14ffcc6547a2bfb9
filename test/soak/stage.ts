import assert from 'node:assert/strict';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import type { Dice } from '../support/dice.ts';
import { TestClient } from '../support/test-client.ts';
import type { Addresses } from '../support/test-client.ts';

export const OK = 'ok\n';

const TRANSPORTS = ['tcp', 'websocket'] as const;

/** Ports of the relay for all kinds of clients. */
export class Stage {
  readonly #addresses: Addresses;
  readonly #clients = new Set<TestClient>();

  constructor(tcpPort: number, websocketPort: number) {
    this.#addresses = { tcpPort, websocketPort, unixPath: '' };
  }

  /** A client of either transport that has sent `text`. */
  async client(dice: Dice, said = ''): Promise<TestClient> {
    const transport = TRANSPORTS[dice.between(0, 1)] ?? 'tcp';
    const client = await TestClient.connect(transport, this.#addresses);
    this.#clients.add(client);
    void client.closed.then(() => this.#clients.delete(client));
    if (said !== '') await client.send(said);
    return client;
  }

  /** Two clients with their `ok`. */
  async pair(dice: Dice): Promise<readonly [TestClient, TestClient]> {
    const token = newToken();
    const first = await this.client(dice, handshake(token, SIDE_A));
    const second = await this.client(dice, handshake(token, SIDE_B));
    await Promise.all([hears(first, OK), hears(second, OK)]);
    return [first, second];
  }

  /** Closes all remaining clients. */
  clear(): void {
    for (const client of this.#clients) client.destroy();
  }
}

/** Rejects unless the client receives exactly this next. */
export async function hears(client: TestClient, words: string): Promise<void> {
  const said = await client.until(words.length);
  assert.equal(said.toString('latin1', 0, words.length), words);
}

/** Resolves when the relay has closed a client cleanly, after exactly these bytes. */
export async function isClosed(client: TestClient, words = ''): Promise<void> {
  const { reset } = await client.closed;
  assert.deepEqual({ reset, said: client.received.toString('latin1') }, { reset: false, said: words });
}
