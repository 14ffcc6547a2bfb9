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

/** A command of Valkey's with other settings. */
function script(...lines: readonly string[]): string {
  return ['maxmemory 192mb', 'maxmemory-policy noeviction', ...lines].join('\n');
}

/** Each fault that the review has to find in a group, besides those that one relay may have. */
export const GROUP_BREAKS: readonly Break[] = [
  // Selectors.
  [SERVER, ['spec', 'selector'], { a: 'b' }, /^Service transit-relay-valkey does not find the pod$/u],
  [
    SERVER,
    ['spec', 'selector'],
    { 'app.kubernetes.io/name': 'transit-relay' },
    /^Service transit-relay-valkey does not find the pod$/u,
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
    /^NetworkPolicy transit-relay-valkey says one thing of egress and does another$/u,
  ],
  [
    AMONG,
    ['spec', 'policyTypes'],
    ['Ingress'],
    /^NetworkPolicy transit-relay-cluster says one thing of egress/u,
  ],
  // Who gets where.
  [AMONG, [...INGRESS, 'from', 0], PEER, /^policies keep relays from each other$/u],
  [AMONG, [...EGRESS, 0, 'to', 0], PEER, /^policies keep relays from each other$/u],
  [AROUND, [...INGRESS, 'from', 0], PEER, /^policies keep relays from the coordinator$/u],
  [AMONG, [...EGRESS, 1], undefined, /^policies keep relays from the coordinator$/u],
  [AMONG, [...EGRESS, 2, 'ports', 0], undefined, /^policies keep relays from names by UDP$/u],
  [AMONG, [...EGRESS, 2, 'ports', 1, 'protocol'], 'UDP', /^policies keep relays from names by TCP$/u],
  [AMONG, [...INGRESS, 'from'], undefined, /^strangers get to port 4005$/u],
  [AMONG, [...INGRESS, 'from', 0], { namespaceSelector: {} }, /^strangers get to port 4005$/u],
  [AROUND, [...INGRESS, 'from'], undefined, /^strangers get to port 6379$/u],
  [AROUND, [...INGRESS, 'from', 0], { ipBlock: { cidr: '10.0.0.0/8' } }, /^strangers get to port 6379$/u],
  [AMONG, [...EGRESS, 2, 'ports'], undefined, /^transit-relay gets to anybody$/u],
  [AROUND, [...EGRESS, 0], {}, /^transit-relay-valkey gets to anybody$/u],
  // Secrets.
  [RELAY, [...SECRET, 'items', 0, 'key'], 'uri', /^nobody makes uri of a Secret transit-relay-cluster$/u],
  [RELAY, [...SECRET, 'secretName'], 'relay', /^nobody makes url of a Secret relay$/u],
  [RELAY, [...SECRET, 'items', 0, 'path'], 'uri', /RELAY_CLUSTER_URL_FILE.*there is no such file/u],
  [
    RELAY,
    [...FIRST, 'volumeMounts', 0, 'mountPath'],
    '/secrets',
    /RELAY_CLUSTER_URL_FILE.*there is no such file/u,
  ],
  [RELAY, [...SECRET, 'defaultMode'], 0o444, /^a Secret is for its group, and for nobody else$/u],
  [RELAY, [...SECRET, 'defaultMode'], undefined, /^a Secret is for its group, and for nobody else$/u],
  [
    VALKEY,
    [...FIRST, 'env', 0, 'valueFrom', 'secretKeyRef', 'key'],
    'pass',
    /^nobody makes pass of a Secret transit-relay-cluster$/u,
  ],
  // The relays.
  [
    RELAY,
    [...FIRST, 'env'],
    env('RELAY_CLUSTER_ADVERTISE', 'relay'),
    /^relays do not tell each other the addr/u,
  ],
  [RELAY, [...FIRST, 'env'], [], /^relays do not tell each other the addresses of their own pods$/u],
  [
    RELAY,
    [...FIRST, 'env', 0, 'valueFrom', 'fieldRef', 'fieldPath'],
    'status.hostIP',
    /^relays do not tell/u,
  ],
  [RELAY, SPREAD, undefined, /^nothing spreads relays over kubernetes\.io\/hostname$/u],
  [
    RELAY,
    [...SPREAD, 'labelSelector', 'matchLabels'],
    { a: 'b' },
    /^nothing spreads relays over kubernetes/u,
  ],
  [RELAY, [...POD, 'topologySpreadConstraints', 1], undefined, /^nothing spreads relays over topology/u],
  [
    RELAY,
    [...SPREAD, 'whenUnsatisfiable'],
    'DoNotSchedule',
    /^a relay that can not be alone is not started$/u,
  ],
  [BUDGET, ['spec', 'maxUnavailable'], 2, /^several relays may be evicted at once$/u],
  [BUDGET, ['spec', 'maxUnavailable'], 0, /^its node can never be emptied$/u],
  [
    CLIENTS,
    ['spec', 'publishNotReadyAddresses'],
    true,
    /^Service transit-relay leads clients to a relay that/u,
  ],
  [STATUS, ['spec', 'publishNotReadyAddresses'], false, /^Service transit-relay-status hides a relay that/u],
  [RELAY, [...FIRST, 'lifecycle'], undefined, /^clients are still sent to a relay that has begun to drain$/u],
  [RELAY, [...FIRST, 'lifecycle', 'preStop', 'exec', 'command', 1], '60', /a drain may take 635 s$/u],
  [RELAY, ['spec', 'minReadySeconds'], undefined, /^a relay goes before clients are sent to the new one$/u],
  [
    RELAY,
    [...FIRST, 'env'],
    env('RELAY_CLUSTER_URL_FILE', ''),
    /^two clients of a pair may come to different relays$/u,
  ],
  [
    RELAY,
    [...POD, 'initContainers', 0, 'startupProbe'],
    undefined,
    /^a rollout goes on where sidecar does not start$/u,
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
  [RELAY, ['spec', 'replicas'], 3, /^replicas undo what the autoscaler has done$/u],
  [SCALER, ['spec', 'minReplicas'], undefined, /^a group of fewer than two$/u],
  [SCALER, ['kind'], 'ScaledObject', /^a group of fewer than two$/u],
  [SCALER, ['spec', 'maxReplicas'], 2, /^the autoscaler may have fewer than it needs$/u],
  [SCALER, [...METRIC, 'container'], 'sidecar', /^the autoscaler does not look at the relay's processor$/u],
  [
    SCALER,
    [...METRIC, 'target', 'averageValue'],
    '1',
    /^the autoscaler waits for more than a relay can use$/u,
  ],
  [SCALER, [...DOWN, 'value'], 2, /^the autoscaler takes relays faster than they drain$/u],
  [SCALER, [...DOWN, 'periodSeconds'], 540, /^the autoscaler takes relays faster than they drain$/u],
  [SCALER, ['spec', 'behavior'], undefined, /^the autoscaler takes relays faster than they drain$/u],
  // The coordinator.
  [SERVER, ['metadata', 'name'], 'valkey', /^there is no coordinator at transit-relay-valkey:6379$/u],
  [SERVER, ['spec', 'ports', 0, 'port'], 6380, /^there is no coordinator at transit-relay-valkey:6379$/u],
  [VALKEY, ['spec', 'replicas'], 2, /^there may be two coordinators, of which each knows a part$/u],
  [VALKEY, ['spec', 'strategy'], undefined, /^there may be two coordinators, of which each knows a part$/u],
  [VALKEY, [...FIRST, 'readinessProbe'], undefined, /^the coordinator has no readinessProbe$/u],
  [VALKEY, [...FIRST, 'livenessProbe'], undefined, /^the coordinator has no livenessProbe$/u],
  [
    VALKEY,
    [...FIRST, 'resources', 'limits', 'memory'],
    '200Mi',
    /^the coordinator outgrows its memory limit$/u,
  ],
  [VALKEY, [...FIRST, 'command', 2], 'maxmemory-policy noeviction', /^the coordinator outgrows its memory/u],
  [VALKEY, [...FIRST, 'command', 2], 'maxmemory 192mb', /^the coordinator may drop claims$/u],
  [
    VALKEY,
    [...FIRST, 'command', 2],
    script('echo $(id)'),
    /^the command has words that Kubernetes replaces$/u,
  ],
  // What holds for all pods.
  [VALKEY, [...CONTEXT, 'runAsNonRoot'], false, /^pod: has to run as a user that is not root$/u],
  [VALKEY, [...POD, 'automountServiceAccountToken'], undefined, /^pod: has a token of the API$/u],
  [
    VALKEY,
    [...FIRST, 'securityContext', 'readOnlyRootFilesystem'],
    false,
    /^valkey: may write to its root$/u,
  ],
  [VALKEY, [...FIRST, 'securityContext', 'capabilities'], undefined, /^valkey: has capabilities$/u],
  [VALKEY, [...FIRST, 'resources', 'requests', 'cpu'], undefined, /^valkey: cpu is not said$/u],
  [VALKEY, [...FIRST, 'resources', 'limits', 'cpu'], '1', /^valkey: is throttled$/u],
  [VALKEY, [...FIRST, 'image'], 'valkey/valkey', /^valkey: another image$/u],
  [VALKEY, ['metadata', 'namespace'], 'valkey', /^transit-relay-valkey is in a namespace of its own$/u],
];
