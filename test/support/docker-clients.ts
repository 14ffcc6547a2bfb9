import { equal, ok } from 'node:assert/strict';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from './bytes.ts';
import type { Container } from './docker.ts';
import { TestClient } from './test-client.ts';

const OK_REPLY = Buffer.from('ok\n');

async function expectBytes(client: TestClient, bytes: Buffer): Promise<void> {
  const received = await client.until(OK_REPLY.length + bytes.length);
  ok(received.equals(Buffer.concat([OK_REPLY, bytes])), `${received.length} bytes arrived`);
}

/** A pair of clients of a relay in a container. */
export class ClientPair implements AsyncDisposable {
  readonly first: TestClient;
  readonly second: TestClient;

  constructor(first: TestClient, second: TestClient) {
    this.first = first;
    this.second = second;
  }

  /** Sends that many bytes in both directions at once and compares them. Once per pair. */
  async exchange(count: number): Promise<void> {
    const there = randomBytesOf(1, count);
    const back = randomBytesOf(2, count);
    await Promise.all([this.first.send(there), this.second.send(back)]);
    await expectBytes(this.second, there);
    await expectBytes(this.first, back);
  }

  /** Both clients close gracefully. Resolves when the relay has closed them. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.first.end();
    this.second.end();
    await Promise.all([this.first.closed, this.second.closed]);
  }
}

/** Connects two clients on this machine and waits until the relay has paired them. */
export async function pairAt(
  ports: { readonly tcpPort: number; readonly websocketPort: number },
  [first, second]: readonly [TransportKind, TransportKind],
): Promise<ClientPair> {
  const addresses = { ...ports, unixPath: '' };
  const clients = [
    await TestClient.connect(first, addresses),
    await TestClient.connect(second, addresses),
  ] as const;
  const token = newToken();
  await clients[0].send(handshake(token, SIDE_A));
  await clients[1].send(handshake(token, SIDE_B));
  for (const client of clients) equal(String(await client.until(OK_REPLY.length)), String(OK_REPLY));
  return new ClientPair(...clients);
}

/** The same, over the published ports of a container. */
export async function newPair(
  relay: Container,
  transports: readonly [TransportKind, TransportKind] = ['tcp', 'tcp'],
): Promise<ClientPair> {
  const [tcpPort, websocketPort] = await Promise.all([relay.port(4001), relay.port(4002)]);
  return pairAt({ tcpPort, websocketPort }, transports);
}
