import { nameOf } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { isGroup } from './settings.ts';

/** One relay, or a group of them, which may be moved, and which is mended by mended settings. */
export function disruptionFaults(manifests: Manifests): string[] {
  const { relay } = manifests;
  const inGroup = isGroup(manifests);
  const faults: string[] = [];
  if (!inGroup && relay.at('spec', 'replicas').value !== 1)
    faults.push('two clients of a pair may come to different relays');
  if (relay.at('spec', 'podManagementPolicy').text !== 'Parallel')
    faults.push('a relay that can not start is never replaced');
  for (const budget of manifests.all('PodDisruptionBudget')) {
    const spec = budget.at('spec');
    const most = spec.at('maxUnavailable').word;
    if (spec.at('minAvailable').isThere || ['0', '0%'].includes(most))
      faults.push('its node can never be emptied');
  }
  const { whenDeleted = 'Retain', whenScaled = 'Retain' } = Object.fromEntries(
    relay
      .at('spec', 'persistentVolumeClaimRetentionPolicy')
      .fields.map(([name, value]) => [name, value.word]),
  );
  if (whenDeleted !== 'Retain' || whenScaled !== 'Retain') faults.push('records go with the relay');
  for (const service of manifests.all('Service')) {
    if (manifests.workloadOf(service)?.name !== nameOf(relay)) continue;
    const publishes = service.at('spec', 'publishNotReadyAddresses').value === true;
    const isForClients = service.at('spec', 'clusterIP').text !== 'None';
    if (inGroup && isForClients && publishes)
      faults.push(`Service ${nameOf(service)} leads clients to a relay that goes`);
    if (!(inGroup && isForClients) && !publishes)
      faults.push(`Service ${nameOf(service)} hides a relay that drains, or whose sidecar is down`);
  }
  return faults;
}
