import type { TestContext } from 'node:test';
import { SIDE_A } from '../../support/bytes.ts';
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
