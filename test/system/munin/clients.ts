import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { TestClient } from '../../support/test-client.ts';

const OK_BYTES = 'ok\n'.length;

/** Moods of clients without a partner. */
export type SingleMood = 'errory' | 'lonely' | 'impatient' | 'empty';

const BYTES_BY_MOOD: Readonly<Record<SingleMood, () => string>> = {
  errory: () => 'nonsense\n',
  lonely: () => handshake(newToken(), SIDE_A),
  impatient: () => `${handshake(newToken(), SIDE_A)}and more`,
  empty: () => '',
};

export function connectTo(port: number): Promise<TestClient> {
  return TestClient.connect('tcp', { tcpPort: port, websocketPort: 0, unixPath: '' });
}

/** Runs one client after the other. Each ends with one of these moods. */
export async function runClients(port: number, moods: readonly SingleMood[]): Promise<void> {
  for (const mood of moods) {
    const client = await connectTo(port);
    const bytes = BYTES_BY_MOOD[mood]();
    if (bytes !== '') await client.send(bytes);
    await client.leave();
  }
}

/** Connects a client that waits for a partner. */
export async function connectWaiting(port: number): Promise<TestClient> {
  const client = await connectTo(port);
  await client.send(handshake(newToken(), SIDE_A));
  return client;
}

/** Two paired clients. */
export interface Pair {
  /** Sends `count` bytes in both directions and waits until they have arrived. Only once per pair. */
  exchange(count: number): Promise<void>;
  /** Closes both clients and waits until the relay has closed its side. */
  end(): Promise<void>;
}

/** Makes a pair. `redundant` other clients of its first side are closed by the relay. */
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
  if (pair.length !== 2) throw new Error(`${pair.length - 1} clients of one side got ok`);
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
