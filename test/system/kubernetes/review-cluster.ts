import { nameOf } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { parseQuantity } from './quantity.ts';
import { preStopSeconds } from './review-settings.ts';
import { isCluster } from './settings.ts';
import { Workload } from './workload.ts';

/** Time for nodes and load balancers to find a new relay, and to leave a stopping one, in seconds. */
const BALANCERS_SECONDS = 20;

/** A relay uses one core at most. */
const MAX_CORES = 1;

/**
 * Relays of a cluster advertise their own addresses, are not lost together, and start and stop without
 * rejecting clients.
 */
export function clusterProblems(manifests: Manifests): string[] {
  if (!isCluster(manifests)) return [];
  const relays = new Workload(manifests.relay);
  const relay = relays.container('relay');
  const problems: string[] = [];
  const variables = relay.at('env').items;
  const advertise = variables.find((one) => one.at('name').text === 'RELAY_CLUSTER_ADVERTISE');
  if (advertise?.at('valueFrom', 'fieldRef', 'fieldPath').text !== 'status.podIP')
    problems.push('relays do not advertise the addresses of their own pods');
  const spreads = relays.pod.at('topologySpreadConstraints').items.filter((spread) => {
    const selects = relays.isSelectedBy(spread.at('labelSelector', 'matchLabels'));
    return selects && spread.at('maxSkew').value === 1;
  });
  for (const key of ['kubernetes.io/hostname', 'topology.kubernetes.io/zone'])
    if (!spreads.some((spread) => spread.at('topologyKey').text === key))
      problems.push(`relays are not spread over ${key}`);
  // A volume may bind a relay to a node that already has one.
  if (spreads.some((spread) => spread.at('whenUnsatisfiable').text !== 'ScheduleAnyway'))
    problems.push('a relay without a free node is not started');
  if (!manifests.all('PodDisruptionBudget').some((one) => one.at('spec', 'maxUnavailable').value === 1))
    problems.push('several relays may be evicted at once');
  if (preStopSeconds(relay) < BALANCERS_SECONDS) problems.push('clients are still sent to a draining relay');
  if ((manifests.relay.at('spec', 'minReadySeconds').number ?? 0) < BALANCERS_SECONDS)
    problems.push('a relay stops before clients are sent to the new one');
  return problems;
}

/** Only the autoscaler sets the number of relays, and it removes them no faster than they drain. */
export function scalingProblems(manifests: Manifests): string[] {
  const { relay } = manifests;
  if (!isCluster(manifests)) return [];
  const problems: string[] = [];
  const scalers = manifests.all('HorizontalPodAutoscaler').map((one) => one.at('spec'));
  const [replicas, grace] = [
    relay.at('spec', 'replicas'),
    manifests.pod.at('terminationGracePeriodSeconds').number ?? 30,
  ];
  if (scalers.length === 0 && (replicas.number ?? 1) < 2) problems.push('a cluster of fewer than two relays');
  for (const scaler of scalers) {
    const target = scaler.at('scaleTargetRef');
    const isFound = ['apiVersion', 'kind'].every((field) => target.at(field).value === relay.at(field).value);
    if (!isFound || target.at('name').text !== nameOf(relay)) problems.push('the autoscaler scales nothing');
    if (replicas.isThere) problems.push('replicas override the autoscaler');
    const [least, most] = [scaler.at('minReplicas').number ?? 1, scaler.at('maxReplicas').number ?? 0];
    if (least < 2) problems.push('a cluster of fewer than two relays');
    if (most < least) problems.push('the autoscaler has a maximum below its minimum');
    for (const metric of scaler.at('metrics').items.map((one) => one.at('containerResource'))) {
      if (metric.at('container').text !== 'relay' || metric.at('name').text !== 'cpu')
        problems.push("the autoscaler does not measure the relay's CPU");
      const value = metric.at('target', 'averageValue');
      if (!value.isThere || parseQuantity(value.word) >= MAX_CORES)
        problems.push('the autoscaler waits for more CPU than a relay can use');
    }
    const policies = scaler.at('behavior', 'scaleDown', 'policies').items;
    const isSlow = policies.every(
      (one) =>
        one.at('type').text === 'Pods' &&
        one.at('value').value === 1 &&
        (one.at('periodSeconds').number ?? 0) >= grace,
    );
    if (!isSlow || policies.length === 0)
      problems.push('the autoscaler removes relays faster than they drain');
  }
  return problems;
}
