import type { Which } from './manifests.ts';

const RELAY: Which = ['StatefulSet', 'transit-relay'];
const CLIENTS: Which = ['Service', 'transit-relay'];
const STATUS: Which = ['Service', 'transit-relay-status'];
const POLICY: Which = ['NetworkPolicy', 'transit-relay'];
const MONITOR: Which = ['PodMonitor', 'transit-relay'];
const INGRESS: Which = ['Ingress', 'transit-relay'];
const ROUTE: Which = ['HTTPRoute', 'transit-relay'];

const POD = ['spec', 'template', 'spec'] as const;
const CONTAINER = [...POD, 'containers', 0] as const;
const SIDECAR = [...POD, 'initContainers', 0] as const;
const FIRST_PORT = ['spec', 'ports', 0] as const;

/** A change of a manifest, and the problem that the review must report. */
export type Break = readonly [
  which: Which,
  path: readonly (string | number)[],
  value: unknown,
  problem: RegExp,
];

/** Each problem that the review must find in a relay with all components. */
export const BREAKS: readonly Break[] = [
  // Selectors.
  [CLIENTS, ['spec', 'selector'], { app: 'relay' }, /^Service transit-relay does not select the pod$/u],
  [CLIENTS, ['spec', 'selector'], {}, /^Service transit-relay does not select the pod$/u],
  [RELAY, ['spec', 'selector', 'matchLabels'], { a: 'b' }, /^StatefulSet transit-relay does not select/u],
  [
    POLICY,
    ['spec', 'podSelector', 'matchLabels'],
    { a: 'b' },
    /^NetworkPolicy transit-relay does not select/u,
  ],
  [MONITOR, ['spec', 'selector', 'matchLabels'], { a: 'b' }, /^PodMonitor transit-relay does not select/u],
  [RELAY, ['spec', 'serviceName'], 'transit-relay', /^serviceName is not a headless Service$/u],
  [RELAY, ['spec', 'serviceName'], 'missing', /^serviceName is not a headless Service$/u],
  // Ports.
  [CLIENTS, [...FIRST_PORT, 'targetPort'], 'row', /^Service transit-relay: there is no port row$/u],
  [CLIENTS, [...FIRST_PORT, 'targetPort'], 4005, /^Service transit-relay: there is no port 4005$/u],
  [
    STATUS,
    ['spec', 'ports', 1, 'targetPort'],
    'sidecar',
    /^Service transit-relay-status: there is no port sidecar$/u,
  ],
  [
    RELAY,
    [...CONTAINER, 'livenessProbe', 'httpGet', 'port'],
    'sidecar',
    /^livenessProbe: there is no port sidecar$/u,
  ],
  [RELAY, [...CONTAINER, 'ports', 1, 'name'], 'raw', /^two ports of the pod have the same name or number$/u],
  [POLICY, ['spec', 'ingress', 0, 'ports', 0, 'port'], 4005, /^NetworkPolicy: there is no port 4005$/u],
  [MONITOR, ['spec', 'podMetricsEndpoints', 0, 'port'], 'metrics', /^PodMonitor: there is no port metrics$/u],
  [
    INGRESS,
    ['spec', 'rules', 0, 'http', 'paths', 0, 'backend', 'service', 'port', 'name'],
    'web',
    /^Ingress: there is no port web of a Service transit-relay$/u,
  ],
  [
    ROUTE,
    ['spec', 'rules', 0, 'backendRefs', 0, 'name'],
    'relay',
    /^HTTPRoute: there is no port 4002 of a Service relay$/u,
  ],
  [
    ROUTE,
    ['spec', 'parentRefs', 0, 'sectionName'],
    'http',
    /^HTTPRoute: there is no listener http of a Gateway/u,
  ],
  // Listeners.
  [RELAY, [...CONTAINER, 'ports', 0, 'containerPort'], 4010, /^nothing listens on port raw \(4010\)$/u],
  [
    RELAY,
    [...CONTAINER, 'env'],
    [{ name: 'RELAY_WEBSOCKET_LISTEN', value: '' }],
    /^nothing listens on port websocket/u,
  ],
  [RELAY, [...SIDECAR, 'ports', 0, 'containerPort'], 4010, /^nothing listens on port sidecar \(4010\)$/u],
  // Addresses.
  [
    CLIENTS,
    ['spec', 'externalTrafficPolicy'],
    'Cluster',
    /^Service transit-relay hides the addresses of clients/u,
  ],
  [
    RELAY,
    [...CONTAINER, 'env'],
    [{ name: 'RELAY_TRUSTED_PROXIES', value: '' }],
    /the proxy is not in RELAY_TRUSTED_PROXIES$/u,
  ],
  // Settings.
  [
    RELAY,
    [...CONTAINER, 'env'],
    [{ name: 'RELAY_QUOTTA', value: '' }],
    /^relay does not know RELAY_QUOTTA$/u,
  ],
  [
    RELAY,
    [...CONTAINER, 'env'],
    [{ name: 'SIDECAR_TOKEN', value: '' }],
    /^relay does not know SIDECAR_TOKEN$/u,
  ],
  [RELAY, [...CONTAINER, 'env'], [{ name: 'RELAY_PAIR_RATE', value: 'fast' }], /RELAY_PAIR_RATE.*"fast"/u],
  [RELAY, [...SIDECAR, 'env', 0, 'value'], '', /SIDECAR_USAGE_DB/u],
  [RELAY, [...CONTAINER, 'envFrom', 0, 'configMapRef', 'name'], 'x', /^there is no ConfigMap x$/u],
  [
    RELAY,
    [...SIDECAR, 'env', 1, 'valueFrom', 'secretKeyRef', 'optional'],
    false,
    /^the pod does not start without the Secret transit-relay-sidecar$/u,
  ],
  // The drain.
  [
    RELAY,
    [...POD, 'terminationGracePeriodSeconds'],
    570,
    /^the grace period is 570 s, and a drain may take 575 s$/u,
  ],
  [
    RELAY,
    [...POD, 'terminationGracePeriodSeconds'],
    undefined,
    /^the grace period is 30 s, and a drain may take 575 s$/u,
  ],
  [RELAY, [...POD, 'terminationGracePeriodSeconds'], 3600, /^a grace period of 3600 s is cut to 600 s$/u],
  [RELAY, [...CONTAINER, 'lifecycle'], { preStop: { sleep: { seconds: 30 } } }, /a drain may take 605 s$/u],
  [RELAY, [...CONTAINER, 'env'], [{ name: 'RELAY_DRAIN_DELAY', value: '1m' }], /a drain may take 630 s$/u],
  // Memory.
  [
    RELAY,
    [...CONTAINER, 'resources', 'limits', 'memory'],
    '256Mi',
    /^the memory limit is 268435456, and the relay/u,
  ],
  [
    RELAY,
    [...CONTAINER, 'env'],
    [{ name: 'RELAY_MAX_CONNECTIONS', value: '65000' }],
    /^the memory limit is 1073741824, and the relay can hold 42598 connections$/u,
  ],
  [RELAY, [...CONTAINER, 'env'], [{ name: 'RELAY_BUFFER_MEMORY', value: '2GiB' }], /^the memory limit is/u],
  // Security.
  [RELAY, [...POD, 'securityContext', 'runAsNonRoot'], false, /^pod: must run as a user other than root$/u],
  [RELAY, [...POD, 'securityContext', 'runAsUser'], 0, /^pod: needs a numeric user id$/u],
  [RELAY, [...POD, 'securityContext', 'seccompProfile'], undefined, /^pod: needs the seccomp profile$/u],
  [RELAY, [...POD, 'automountServiceAccountToken'], undefined, /^pod: has an API token$/u],
  [RELAY, [...POD, 'enableServiceLinks'], undefined, /^pod: gets variables from Services$/u],
  [RELAY, [...POD, 'hostNetwork'], true, /^pod: shares hostNetwork$/u],
  [RELAY, [...POD, 'volumes'], [{ name: 'x', hostPath: { path: '/' } }], /^pod: mounts a host directory$/u],
  [
    RELAY,
    [...CONTAINER, 'securityContext', 'allowPrivilegeEscalation'],
    true,
    /^relay: may gain privileges$/u,
  ],
  [
    RELAY,
    [...SIDECAR, 'securityContext', 'readOnlyRootFilesystem'],
    undefined,
    /^sidecar: has a writable root file system$/u,
  ],
  [RELAY, [...CONTAINER, 'securityContext', 'capabilities', 'add'], ['CHOWN'], /^relay: has capabilities$/u],
  [RELAY, [...SIDECAR, 'securityContext', 'capabilities', 'drop'], [], /^sidecar: has capabilities$/u],
  [RELAY, [...CONTAINER, 'securityContext', 'privileged'], true, /^relay: is privileged$/u],
  [RELAY, [...CONTAINER, 'securityContext', 'runAsUser'], 0, /^relay: may be root$/u],
  [RELAY, [...CONTAINER, 'ports', 0, 'hostPort'], 4001, /^relay: uses a host port$/u],
  // The kernel's buffers.
  [
    RELAY,
    [...POD, 'securityContext', 'sysctls'],
    undefined,
    /^the kernel buffers too much for a connection$/u,
  ],
  [
    RELAY,
    [...POD, 'securityContext', 'sysctls', 0, 'value'],
    '4096 131072 6291456',
    /^the kernel buffers too much for a connection$/u,
  ],
  [
    RELAY,
    [...POD, 'securityContext', 'sysctls', 1, 'name'],
    'net.ipv4.tcp_notsent_lowat',
    /^kubelets reject net\.ipv4\.tcp_notsent_lowat$/u,
  ],
  // Resources.
  [
    RELAY,
    [...CONTAINER, 'resources', 'requests', 'memory'],
    '2Gi',
    /^relay: requests more memory than its limit$/u,
  ],
  [RELAY, [...SIDECAR, 'resources', 'limits'], undefined, /^sidecar: memory is not set$/u],
  [RELAY, [...CONTAINER, 'resources', 'limits', 'cpu'], '1', /^relay: has a CPU limit$/u],
  // Probes.
  [
    RELAY,
    [...CONTAINER, 'livenessProbe', 'httpGet', 'path'],
    '/readyz',
    /^livenessProbe does not request \/livez$/u,
  ],
  [
    RELAY,
    [...CONTAINER, 'readinessProbe', 'httpGet', 'path'],
    '/livez',
    /^readinessProbe does not request \/readyz$/u,
  ],
  [
    RELAY,
    [...CONTAINER, 'livenessProbe', 'failureThreshold'],
    3,
    /^30 s without a response end all transfers$/u,
  ],
  [
    RELAY,
    [...CONTAINER, 'livenessProbe', 'terminationGracePeriodSeconds'],
    undefined,
    /^relay is down for a whole drain when livenessProbe fails$/u,
  ],
  [
    RELAY,
    [...SIDECAR, 'livenessProbe', 'terminationGracePeriodSeconds'],
    600,
    /^sidecar is down for a whole drain when livenessProbe fails$/u,
  ],
  [RELAY, [...SIDECAR, 'restartPolicy'], undefined, /^sidecar must end before the relay starts$/u],
  [RELAY, [...SIDECAR, 'startupProbe'], {}, /^the relay waits for the start of sidecar$/u],
  [
    RELAY,
    [...CONTAINER, 'startupProbe', 'initialDelaySeconds'],
    undefined,
    /^relay is probed before it can answer$/u,
  ],
  [
    RELAY,
    [...SIDECAR, 'livenessProbe', 'initialDelaySeconds'],
    0,
    /^sidecar is probed before it can answer$/u,
  ],
  [RELAY, [...SIDECAR, 'readinessProbe'], {}, /^the relay is not ready while sidecar is not$/u],
  // Volumes.
  [RELAY, ['spec', 'volumeClaimTemplates'], [], /^there is no volume data$/u],
  [
    RELAY,
    [...CONTAINER, 'volumeMounts', 0, 'mountPath'],
    '/dat',
    /^relay cannot write \/data\/usage\.sqlite$/u,
  ],
  [RELAY, [...CONTAINER, 'volumeMounts', 0, 'readOnly'], true, /^relay cannot write \/data\/usage\.sqlite$/u],
  [RELAY, [...SIDECAR, 'volumeMounts', 1, 'readOnly'], true, /^sidecar cannot write \/data\/snapshots$/u],
  [RELAY, [...SIDECAR, 'volumeMounts', 0, 'readOnly'], false, /^the sidecar can write the database$/u],
  [RELAY, [...SIDECAR, 'volumeMounts', 0, 'subPath'], 'x', /^the sidecar reads another database than/u],
  [
    RELAY,
    [...CONTAINER, 'env'],
    [
      { name: 'RELAY_QUOTA', value: '1GB/day' },
      { name: 'RELAY_QUOTA_STATE', value: '/tmp/quota' },
    ],
    /^relay cannot write \/tmp\/quota$/u,
  ],
  [
    RELAY,
    [...POD, 'securityContext', 'fsGroup'],
    undefined,
    /^the volume does not get the group of the relay$/u,
  ],
  // One relay.
  [RELAY, ['spec', 'replicas'], 2, /^two clients of a pair may reach different relays$/u],
  [RELAY, ['spec', 'podManagementPolicy'], 'OrderedReady', /^a relay that cannot start is never replaced$/u],
  [
    RELAY,
    ['spec', 'persistentVolumeClaimRetentionPolicy', 'whenDeleted'],
    'Delete',
    /^records are deleted with the relay$/u,
  ],
  [
    CLIENTS,
    ['spec', 'publishNotReadyAddresses'],
    undefined,
    /^Service transit-relay hides a relay that drains/u,
  ],
  // Namespace and image.
  [RELAY, ['metadata', 'namespace'], 'relay', /^transit-relay has a namespace of its own$/u],
  [RELAY, [...CONTAINER, 'image'], 'somewhere/transit-relay', /^relay: another image$/u],
  [RELAY, [...CONTAINER, 'imagePullPolicy'], 'Always', /^relay: an image loaded onto the node is not used$/u],
  [RELAY, [...SIDECAR, 'command'], ['node'], /^sidecar: runs without the image's init$/u],
];
