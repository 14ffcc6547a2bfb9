import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { TestClient } from '../support/test-client.ts';

const OK_BYTES = 'ok\n'.length;

/** How a client may leave without a partner. */
export type Lone = 'errory' | 'lonely' | 'impatient' | 'empty';

const SAYS: Readonly<Record<Lone, () => string>> = {
  errory: () => 'nonsense\n',
  lonely: () => handshake(newToken(), SIDE_A),
  impatient: () => `${handshake(newToken(), SIDE_A)}and more`,
  empty: () => '',
};

export function connectTo(port: number): Promise<TestClient> {
  return TestClient.connect('tcp', { tcpPort: port, websocketPort: 0, unixPath: '' });
}

/** Clients that come one after the other and leave like this. */
export async function visit(port: number, moods: readonly Lone[]): Promise<void> {
  for (const mood of moods) {
    const client = await connectTo(port);
    const words = SAYS[mood]();
    if (words !== '') await client.send(words);
    client.end();
    await client.closed;
  }
}

/** A client that waits, until it is ended. */
export async function waitAt(port: number): Promise<TestClient> {
  const client = await connectTo(port);
  await client.send(handshake(newToken(), SIDE_A));
  return client;
}

/** Two clients that are connected to each other. */
export interface Pair {
  /** Sends that many bytes both ways and waits until they have arrived. Once a pair. */
  exchange(count: number): Promise<void>;
  /** Both leave, and the relay lets them go. */
  end(): Promise<void>;
}

/** Makes a pair, beside which `redundant` clients of its first side are dropped. */
export async function pairAt(port: number, redundant = 0): Promise<Pair> {
  const token = newToken();
  const firsts: TestClient[] = [];
  for (let made = 0; made <= redundant; made += 1) {
    const client = await connectTo(port);
    await client.send(handshake(token, SIDE_A));
    firsts.push(client);
  }
  const second = await connectTo(port);
  await second.send(handshake(token, SIDE_B));
  await Promise.all([second, ...firsts].map((client) => client.until(OK_BYTES)));
  const pair = [...firsts.filter((client) => client.receivedBytes > 0), second];
  if (pair.length !== 2) throw new Error(`${pair.length - 1} clients are in a pair with one`);
  return {
    exchange: async (count) => {
      await Promise.all(pair.map((client) => client.send(randomBytesOf(1, count))));
      await Promise.all(pair.map((client) => client.until(OK_BYTES + count)));
    },
    end: async () => {
      for (const client of pair) client.end();
      await Promise.all(pair.map((client) => client.closed));
    },
  };
}
