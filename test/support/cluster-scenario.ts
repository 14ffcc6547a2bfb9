import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseHandshake } from '../../src/protocol/handshake.ts';
import type { Token } from '../../src/protocol/messages.ts';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { SIDE_A, handshake, newToken } from './bytes.ts';
import { until } from './scratch.ts';
import type { Close, TestClient } from './test-client.ts';
import { TestCluster } from './test-cluster.ts';
import type { TestRelayOptions } from './test-relay.ts';

export const TRANSPORTS: readonly TransportKind[] = ['tcp', 'unix', 'websocket'];

export interface ClusterTestOptions extends TestRelayOptions {
  readonly relays?: number;
  /** Additional options of single relays, by index. */
  readonly perRelay?: Readonly<Record<number, TestRelayOptions>>;
}

/** A test after which no connection, lease or link may be left. */
export function clusterTest(
  name: string,
  play: (cluster: TestCluster) => Promise<void>,
  { relays = 2, perRelay: only = {}, ...options }: ClusterTestOptions = {},
): void {
  test(name, { timeout: 60_000 }, async (context) => {
    const cluster = await TestCluster.open(relays, options, only);
    context.after(() => cluster.close());
    await play(cluster);
    await cluster.untilEmpty();
  });
}

/** A client, over TCP by default, that connects to one relay of a cluster and sends `line`. */
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

/** A token under which a client of side A waits, at the relay that owns it. */
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

/** Which relay owns a token; -1: none. */
export function ownerOf(cluster: TestCluster, token: string): number {
  const id = cluster.leases.ownerOf(tokenOf(token))?.id;
  return cluster.members.findIndex(({ owner }) => owner.id === id);
}

/** The token as the handshake parser returns it. */
export function tokenOf(text: string): Token {
  const line = parseHandshake(Buffer.from(handshake(text)));
  if (line.kind !== 'relay') throw new Error('no token');
  return line.token;
}

export function closedWith(transport: TransportKind, code = 1000): Close {
  return { reset: false, code: transport === 'websocket' ? code : null };
}

/** The client receives exactly this, and is closed. */
export async function expectReply(client: TestClient, word: string, code = 1000): Promise<void> {
  assert.deepEqual(await client.closed, closedWith(client.transport, code));
  assert.equal(client.received.toString(), word);
}

/** Both receive `ok`, and each receives the other's bytes. */
export async function expectExchange(one: TestClient, other: TestClient): Promise<void> {
  assert.equal((await one.until(3)).toString(), 'ok\n');
  assert.equal((await other.until(3)).toString(), 'ok\n');
  await one.send('from one');
  await other.send('from the other');
  assert.equal((await one.until(17)).toString(), 'ok\nfrom the other');
  assert.equal((await other.until(11)).toString(), 'ok\nfrom one');
}

/** The moods and transports that a relay has recorded. */
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

/** The record of a client's pair with one that came over a link. */
export function happyRecord(transport: TransportKind): string {
  return ['happy', ...[transport, 'link'].toSorted()].join(' ');
}
