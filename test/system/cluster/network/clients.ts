import type { TestContext } from 'node:test';
import { SIDE_A } from '../../../support/bytes.ts';
import { until } from '../../../support/scratch.ts';
import type { TestClient } from '../../../support/test-client.ts';
import type { NetworkCluster } from './network-cluster.ts';
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
  { coordinator }: NetworkCluster,
  relay: NetworkRelay,
  token: string,
): Promise<TestClient> {
  // Leases of earlier pairs may still be released meanwhile, so their number says nothing.
  const before = new Set(await coordinator.keys());
  const client = await startWaitingClient(context, relay, token);
  await until(async () => (await coordinator.keys()).some((key) => !before.has(key)));
  return client;
}
