import type { TestContext } from 'node:test';
import { SIDE_A } from '../../../support/bytes.ts';
import type { TestClient } from '../../../support/test-client.ts';
import type { NetworkRelay } from './network-relay.ts';

/** A client of side A that waits at `relay`. The relay may not have leased the token yet. */
export async function startWaitingClient(
  context: TestContext,
  relay: NetworkRelay,
  token: string,
): Promise<TestClient> {
  const before = await relay.metric('connections_waiting');
  const client = await relay.connectClient(context, token, SIDE_A);
  await relay.untilMetric('connections_waiting', before + 1);
  return client;
}

/** A client of side A that waits at `relay`, after the relay has leased the token. */
export async function startOwningClient(
  context: TestContext,
  relay: NetworkRelay,
  token: string,
): Promise<TestClient> {
  const before = await relay.metric('cluster_leases');
  const client = await startWaitingClient(context, relay, token);
  await relay.untilMetric('cluster_leases', before + 1);
  return client;
}
