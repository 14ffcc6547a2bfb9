import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { SIDE_A, randomBytesOf } from '../../support/bytes.ts';
import type { TestClient } from '../../support/test-client.ts';
import type { NetworkRelay } from './network-relay.ts';

/** A client of side A that waits at `relay`, and nowhere else. */
export async function waits(context: TestContext, relay: NetworkRelay, token: string): Promise<TestClient> {
  const before = await relay.figure('connections_waiting');
  const client = await relay.visit(context, token, SIDE_A);
  await relay.comesTo('connections_waiting', before + 1);
  return client;
}

/** The same at a relay whose claim the coordinator has. */
export async function owns(context: TestContext, relay: NetworkRelay, token: string): Promise<TestClient> {
  const before = await relay.figure('cluster_claims');
  const client = await waits(context, relay, token);
  await relay.comesTo('cluster_claims', before + 1);
  return client;
}

/** Both hear `ok`, and each gets what the other one sends: what comes is compared. */
export async function talk(one: TestClient, other: TestClient, size = 100_000): Promise<void> {
  // Whoever speaks before is impatient.
  await Promise.all([one.until(3), other.until(3)]);
  const [fromOne, fromOther] = [randomBytesOf(1, size), randomBytesOf(2, size)];
  await Promise.all([one.sendAll(fromOne, 65_536), other.sendAll(fromOther, 65_536)]);
  const [gotOne, gotOther] = await Promise.all([one.until(size + 3), other.until(size + 3)]);
  assert.ok(gotOne.equals(Buffer.concat([Buffer.from('ok\n'), fromOther])));
  assert.ok(gotOther.equals(Buffer.concat([Buffer.from('ok\n'), fromOne])));
}
