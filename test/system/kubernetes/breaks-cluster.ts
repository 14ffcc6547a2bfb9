import type { Break } from './breaks.ts';
import type { Which } from './manifests.ts';

const RELAY: Which = ['StatefulSet', 'transit-relay'];
const VALKEY: Which = ['Deployment', 'transit-relay-valkey'];
const CLIENTS: Which = ['Service', 'transit-relay'];
const STATUS: Which = ['Service', 'transit-relay-status'];
const SERVER: Which = ['Service', 'transit-relay-valkey'];
const SCALER: Which = ['HorizontalPodAutoscaler', 'transit-relay'];
const BUDGET: Which = ['PodDisruptionBudget', 'transit-relay'];
const AMONG: Which = ['NetworkPolicy', 'transit-relay-cluster'];
const AROUND: Which = ['NetworkPolicy', 'transit-relay-valkey'];

const POD = ['spec', 'template', 'spec'] as const;
const FIRST = [...POD, 'containers', 0] as const;
const CONTEXT = [...POD, 'securityContext'] as const;
const SPREAD = [...POD, 'topologySpreadConstraints', 0] as const;
const SECRET = [...POD, 'volumes', 0, 'secret'] as const;
const METRIC = ['spec', 'metrics', 0, 'containerResource'] as const;
const DOWN = ['spec', 'behavior', 'scaleDown', 'policies', 0] as const;
const EGRESS = ['spec', 'egress'] as const;
const INGRESS = ['spec', 'ingress', 0] as const;
const PEER = { podSelector: { matchLabels: { a: 'b' } } };

function env(name: string, value: string): object[] {
  return [{ name, value }];
}

/** A command of Valkey with other settings. */
function script(...lines: readonly string[]): string {
  return ['maxmemory 192mb', 'maxmemory-policy noeviction', ...lines].join('\n');
}

/** Each problem that the review must find in a cluster, in addition to those of a single relay. */
export const CLUSTER_BREAKS: readonly Break[] = [
  // Selectors.
  [SERVER, ['spec', 'selector'], { a: 'b' }, /^Service transit-relay-valkey does not select the pod$/u],
  [
    SERVER,
    ['spec', 'selector'],
    { 'app.kubernetes.io/name': 'transit-relay' },
    /^Service transit-relay-valkey does not select the pod$/u,
  ],
  [BUDGET, ['spec', 'selector', 'matchLabels'], { a: 'b' }, /^PodDisruptionBudget transit-relay does not/u],
  [VALKEY, ['spec', 'selector', 'matchLabels'], { a: 'b' }, /^Deployment transit-relay-valkey does not/u],
  [AMONG, ['spec', 'podSelector', 'matchLabels'], { a: 'b' }, /^NetworkPolicy transit-relay-cluster does/u],
  [AROUND, ['spec', 'podSelector', 'matchLabels'], { a: 'b' }, /^NetworkPolicy transit-relay-valkey does/u],
  // Ports.
  [
    SERVER,
    ['spec', 'ports', 0, 'targetPort'],
    'redis',
    /^Service transit-relay-valkey: there is no port redis$/u,
  ],
  [
    RELAY,
    [...FIRST, 'env', 1],
    { name: 'RELAY_CLUSTER_LISTEN', value: 'tcp:4004' },
    /^nothing listens on port cluster \(4005\)$/u,
  ],
  [
    RELAY,
    [...FIRST, 'ports', 0, 'containerPort'],
    4004,
    /^two ports of the pod have the same name or number$/u,
  ],
  [AMONG, [...INGRESS, 'ports', 0, 'port'], 4006, /^NetworkPolicy: there is no port 4006$/u],
  [AMONG, [...EGRESS, 0, 'ports', 0, 'port'], 6379, /^NetworkPolicy: there is no port 6379$/u],
  [AMONG, [...EGRESS, 1, 'ports', 0, 'port'], 6380, /^NetworkPolicy: there is no port 6380$/u],
  [AMONG, [...EGRESS, 2, 'ports', 0, 'port'], 54, /^NetworkPolicy: there is no port 54$/u],
  [
    AROUND,
    EGRESS,
    undefined,
    /^NetworkPolicy transit-relay-valkey declares egress differently from its rules$/u,
  ],
  [AMONG, ['spec', 'policyTypes'], ['Ingress'], /^NetworkPolicy transit-relay-cluster declares egress/u],
  // Network access.
  [AMONG, [...INGRESS, 'from', 0], PEER, /^policies block relays from each other$/u],
  [AMONG, [...EGRESS, 0, 'to', 0], PEER, /^policies block relays from each other$/u],
  [AROUND, [...INGRESS, 'from', 0], PEER, /^policies block relays from the coordinator$/u],
  [AMONG, [...EGRESS, 1], undefined, /^policies block relays from the coordinator$/u],
  [AMONG, [...EGRESS, 2, 'ports', 0], undefined, /^policies block relays from DNS over UDP$/u],
  [AMONG, [...EGRESS, 2, 'ports', 1, 'protocol'], 'UDP', /^policies block relays from DNS over TCP$/u],
  [AMONG, [...INGRESS, 'from'], undefined, /^other pods may connect to port 4005$/u],
  [AMONG, [...INGRESS, 'from', 0], { namespaceSelector: {} }, /^other pods may connect to port 4005$/u],
  [AROUND, [...INGRESS, 'from'], undefined, /^other pods may connect to port 6379$/u],
  [
    AROUND,
    [...INGRESS, 'from', 0],
    { ipBlock: { cidr: '10.0.0.0/8' } },
    /^other pods may connect to port 6379$/u,
  ],
  [AMONG, [...EGRESS, 2, 'ports'], undefined, /^transit-relay may connect to anything$/u],
  [AROUND, [...EGRESS, 0], {}, /^transit-relay-valkey may connect to anything$/u],
  // Secrets.
  [
    RELAY,
    [...SECRET, 'items', 0, 'key'],
    'uri',
    /^no command creates uri of a Secret transit-relay-cluster$/u,
  ],
  [RELAY, [...SECRET, 'secretName'], 'relay', /^no command creates url of a Secret relay$/u],
  [RELAY, [...SECRET, 'items', 0, 'path'], 'uri', /RELAY_CLUSTER_URL_FILE.*there is no such file/u],
  [
    RELAY,
    [...FIRST, 'volumeMounts', 0, 'mountPath'],
    '/secrets',
    /RELAY_CLUSTER_URL_FILE.*there is no such file/u,
  ],
  [RELAY, [...SECRET, 'defaultMode'], 0o444, /^a Secret is not limited to its group$/u],
  [RELAY, [...SECRET, 'defaultMode'], undefined, /^a Secret is not limited to its group$/u],
  [
    VALKEY,
    [...FIRST, 'env', 0, 'valueFrom', 'secretKeyRef', 'key'],
    'pass',
    /^no command creates pass of a Secret transit-relay-cluster$/u,
  ],
  // The relays.
  [RELAY, [...FIRST, 'env'], env('RELAY_CLUSTER_ADVERTISE', 'relay'), /^relays do not advertise the addr/u],
  [RELAY, [...FIRST, 'env'], [], /^relays do not advertise the addresses of their own pods$/u],
  [
    RELAY,
    [...FIRST, 'env', 0, 'valueFrom', 'fieldRef', 'fieldPath'],
    'status.hostIP',
    /^relays do not advertise/u,
  ],
  [RELAY, SPREAD, undefined, /^relays are not spread over kubernetes\.io\/hostname$/u],
  [RELAY, [...SPREAD, 'labelSelector', 'matchLabels'], { a: 'b' }, /^relays are not spread over kubernetes/u],
  [RELAY, [...POD, 'topologySpreadConstraints', 1], undefined, /^relays are not spread over topology/u],
  [RELAY, [...SPREAD, 'whenUnsatisfiable'], 'DoNotSchedule', /^a relay without a free node is not started$/u],
  [BUDGET, ['spec', 'maxUnavailable'], 2, /^several relays may be evicted at once$/u],
  [BUDGET, ['spec', 'maxUnavailable'], 0, /^its node can never be drained$/u],
  [
    CLIENTS,
    ['spec', 'publishNotReadyAddresses'],
    true,
    /^Service transit-relay leads clients to a relay that/u,
  ],
  [STATUS, ['spec', 'publishNotReadyAddresses'], false, /^Service transit-relay-status hides a relay that/u],
  [RELAY, [...FIRST, 'lifecycle'], undefined, /^clients are still sent to a draining relay$/u],
  [RELAY, [...FIRST, 'lifecycle', 'preStop', 'exec', 'command', 1], '60', /a drain may take 635 s$/u],
  [RELAY, ['spec', 'minReadySeconds'], undefined, /^a relay stops before clients are sent to the new one$/u],
  [
    RELAY,
    [...FIRST, 'env'],
    env('RELAY_CLUSTER_URL_FILE', ''),
    /^two clients of a pair may reach different relays$/u,
  ],
  [
    RELAY,
    [...POD, 'initContainers', 0, 'startupProbe'],
    undefined,
    /^a rollout continues although sidecar does not start$/u,
  ],
  [
    VALKEY,
    [...FIRST, 'readinessProbe', 'initialDelaySeconds'],
    undefined,
    /^valkey is probed before it can answer$/u,
  ],
  // The autoscaler.
  [SCALER, ['spec', 'scaleTargetRef', 'name'], 'relay', /^the autoscaler scales nothing$/u],
  [SCALER, ['spec', 'scaleTargetRef', 'kind'], 'Deployment', /^the autoscaler scales nothing$/u],
  [RELAY, ['spec', 'replicas'], 3, /^replicas override the autoscaler$/u],
  [SCALER, ['spec', 'minReplicas'], undefined, /^a cluster of fewer than two relays$/u],
  [SCALER, [], undefined, /^a cluster of fewer than two relays$/u],
  [SCALER, ['spec', 'maxReplicas'], 2, /^the autoscaler has a maximum below its minimum$/u],
  [SCALER, [...METRIC, 'container'], 'sidecar', /^the autoscaler does not measure the relay's CPU$/u],
  [
    SCALER,
    [...METRIC, 'target', 'averageValue'],
    '1',
    /^the autoscaler waits for more CPU than a relay can use$/u,
  ],
  [SCALER, [...DOWN, 'value'], 2, /^the autoscaler removes relays faster than they drain$/u],
  [SCALER, [...DOWN, 'periodSeconds'], 540, /^the autoscaler removes relays faster than they drain$/u],
  [SCALER, ['spec', 'behavior'], undefined, /^the autoscaler removes relays faster than they drain$/u],
  // The coordinator.
  [SERVER, ['metadata', 'name'], 'valkey', /^there is no coordinator at transit-relay-valkey:6379$/u],
  [SERVER, ['spec', 'ports', 0, 'port'], 6380, /^there is no coordinator at transit-relay-valkey:6379$/u],
  [VALKEY, ['spec', 'replicas'], 2, /^there may be two coordinators, each with a part of the leases$/u],
  [
    VALKEY,
    ['spec', 'strategy'],
    undefined,
    /^there may be two coordinators, each with a part of the leases$/u,
  ],
  [VALKEY, [...FIRST, 'readinessProbe'], undefined, /^the coordinator has no readinessProbe$/u],
  [VALKEY, [...FIRST, 'livenessProbe'], undefined, /^the coordinator has no livenessProbe$/u],
  [
    VALKEY,
    [...FIRST, 'resources', 'limits', 'memory'],
    '200Mi',
    /^the coordinator exceeds its memory limit$/u,
  ],
  [VALKEY, [...FIRST, 'command', 2], 'maxmemory-policy noeviction', /^the coordinator exceeds its memory/u],
  [VALKEY, [...FIRST, 'command', 2], 'maxmemory 192mb', /^the coordinator may drop leases$/u],
  [
    VALKEY,
    [...FIRST, 'command', 2],
    script('echo $(id)'),
    /^the command has variables that Kubernetes expands$/u,
  ],
  // Rules for all pods.
  [VALKEY, [...CONTEXT, 'runAsNonRoot'], false, /^pod: must run as a user other than root$/u],
  [VALKEY, [...POD, 'automountServiceAccountToken'], undefined, /^pod: has an API token$/u],
  [
    VALKEY,
    [...FIRST, 'securityContext', 'readOnlyRootFilesystem'],
    false,
    /^valkey: has a writable root file system$/u,
  ],
  [VALKEY, [...FIRST, 'securityContext', 'capabilities'], undefined, /^valkey: has capabilities$/u],
  [VALKEY, [...FIRST, 'resources', 'requests', 'cpu'], undefined, /^valkey: cpu is not set$/u],
  [VALKEY, [...FIRST, 'resources', 'limits', 'cpu'], '1', /^valkey: has a CPU limit$/u],
  [VALKEY, [...FIRST, 'image'], 'valkey/valkey', /^valkey: another image$/u],
  [VALKEY, ['metadata', 'namespace'], 'valkey', /^transit-relay-valkey has a namespace of its own$/u],
];
