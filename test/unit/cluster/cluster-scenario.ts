import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseHandshake } from '../../../src/protocol/handshake.ts';
import type { Token } from '../../../src/protocol/messages.ts';
import type { TransportKind } from '../../../src/transport/client-transport.ts';
import { SIDE_A, handshake, newToken } from '../../support/bytes.ts';
import { until } from '../../support/scratch.ts';
import { closedWith } from '../../support/test-client.ts';
import type { TestClient } from '../../support/test-client.ts';
import { TestCluster } from '../../support/test-cluster.ts';
import type { TestRelayOptions } from '../../support/test-relay.ts';

export interface ClusterTestOptions extends TestRelayOptions {
  readonly relays?: number;
  /** Additional options of single relays, by index. */
  readonly perRelay?: Readonly<Record<number, TestRelayOptions>>;
}

/** Defines a test with a cluster. After it, no connection, lease or link may remain. */
export function clusterTest(
  name: string,
  run: (cluster: TestCluster) => Promise<void>,
  { relays = 2, perRelay: only = {}, ...options }: ClusterTestOptions = {},
): void {
  test(name, { timeout: 60_000 }, async (context) => {
    const cluster = await TestCluster.open(relays, options, only);
    context.after(() => cluster.close());
    await run(cluster);
    await cluster.untilEmpty();
  });
}

/** Connects a client, over TCP by default, to one relay of a cluster and sends `line`. */
export async function connectAndSend(
  cluster: TestCluster,
  relay: number,
  line: string,
  transport: TransportKind = 'tcp',
): Promise<TestClient> {
  const client = await cluster.member(relay).relay.connect(transport);
  await client.send(line);
  return client;
}

/** Resolves when `count` clients wait in a relay's rendezvous. */
export function untilWaitingAt(cluster: TestCluster, relay: number, count: number): Promise<void> {
  return until(() => cluster.member(relay).relay.sessions.clients.rendezvous.waitingClients === count);
}

/** Connects a client of side A with a new token to a relay, and waits until that relay owns the token. */
export async function startWaiting(
  cluster: TestCluster,
  relay = 0,
  transport: TransportKind = 'tcp',
): Promise<{ token: string; waiter: TestClient }> {
  const token = newToken();
  const waiter = await connectAndSend(cluster, relay, handshake(token, SIDE_A), transport);
  await until(() => ownerOf(cluster, token) === relay);
  return { token, waiter };
}

/** The index of the relay that owns a token; -1 for none. */
export function ownerOf(cluster: TestCluster, token: string): number {
  const id = cluster.leases.ownerOf(tokenOf(token))?.id;
  return cluster.members.findIndex(({ owner }) => owner.id === id);
}

/** The token as the handshake parser returns it. */
export function tokenOf(text: string): Token {
  const line = parseHandshake(Buffer.from(handshake(text)));
  if (line.kind !== 'relay') throw new Error('not a handshake');
  return line.token;
}

/** Expects that the client has received exactly `word` when the relay closes it. */
export async function expectReply(client: TestClient, word: string, code = 1000): Promise<void> {
  assert.deepEqual(await client.closed, closedWith(client.transport, code));
  assert.equal(client.received.toString(), word);
}

/** Expects that both clients receive `ok` and each other's bytes. */
export async function expectExchange(one: TestClient, other: TestClient): Promise<void> {
  assert.equal((await one.until(3)).toString(), 'ok\n');
  assert.equal((await other.until(3)).toString(), 'ok\n');
  await one.send('from one');
  await other.send('from the other');
  assert.equal((await one.until(17)).toString(), 'ok\nfrom the other');
  assert.equal((await other.until(11)).toString(), 'ok\nfrom one');
}

/** Moods and transports of a relay's usage records. */
export function recordsOf(cluster: TestCluster, relay: number): string[] {
  const { summaries } = cluster.member(relay).relay;
  return summaries.map(({ mood, transports }) => [mood, ...transports.toSorted()].join(' ')).toSorted();
}

export async function expectRecords(
  cluster: TestCluster,
  relay: number,
  expected: readonly string[],
): Promise<void> {
  await cluster.member(relay).relay.waitForRecords(expected.length);
  assert.deepEqual(recordsOf(cluster, relay), expected);
}

/** The record of a pair of a local client and a forwarded one. */
export function happyRecord(transport: TransportKind): string {
  return ['happy', ...[transport, 'link'].toSorted()].join(' ');
}
