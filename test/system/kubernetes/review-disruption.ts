import { nameOf } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { isCluster } from './settings.ts';

/** A relay, or a cluster of relays, can be moved, and corrected settings replace a failing one. */
export function disruptionProblems(manifests: Manifests): string[] {
  const { relay } = manifests;
  const inGroup = isCluster(manifests);
  const problems: string[] = [];
  if (!inGroup && relay.at('spec', 'replicas').value !== 1)
    problems.push('two clients of a pair may reach different relays');
  if (relay.at('spec', 'podManagementPolicy').text !== 'Parallel')
    problems.push('a relay that cannot start is never replaced');
  for (const budget of manifests.all('PodDisruptionBudget')) {
    const spec = budget.at('spec');
    const most = spec.at('maxUnavailable').word;
    if (spec.at('minAvailable').isThere || ['0', '0%'].includes(most))
      problems.push('its node can never be drained');
  }
  const { whenDeleted = 'Retain', whenScaled = 'Retain' } = Object.fromEntries(
    relay
      .at('spec', 'persistentVolumeClaimRetentionPolicy')
      .fields.map(([name, value]) => [name, value.word]),
  );
  if (whenDeleted !== 'Retain' || whenScaled !== 'Retain')
    problems.push('records are deleted with the relay');
  for (const service of manifests.all('Service')) {
    if (manifests.workloadOf(service)?.name !== nameOf(relay)) continue;
    const publishes = service.at('spec', 'publishNotReadyAddresses').value === true;
    const isForClients = service.at('spec', 'clusterIP').text !== 'None';
    if (inGroup && isForClients && publishes)
      problems.push(`Service ${nameOf(service)} leads clients to a relay that is stopping`);
    if (!(inGroup && isForClients) && !publishes)
      problems.push(`Service ${nameOf(service)} hides a relay that drains, or whose sidecar is down`);
  }
  return problems;
}
