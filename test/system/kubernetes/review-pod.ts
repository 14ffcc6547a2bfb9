import { posix } from 'node:path';
import { nameIn, nameOf } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { parseQuantity } from './quantity.ts';
import { isCluster, readRelay, readSidecar } from './settings.ts';
import type { Tree } from './tree.ts';
import type { Workload } from './workload.ts';

/** A process without a response for that long hangs, even under load; in seconds. */
const MIN_LIVENESS_SECONDS = 60;

/** A hanging process does not end by itself: it must be killed soon, not after a whole drain; in seconds. */
const MAX_PROBE_GRACE_SECONDS = 60;

/** Kernel settings that bound the memory of a connection. Pod Security "restricted" allows both since 1.32. */
const BUFFER_SYSCTLS = ['net.ipv4.tcp_rmem', 'net.ipv4.tcp_wmem'];

/** Most that the kernel may buffer for a connection, in bytes. */
const MAX_BUFFER_BYTES = 6 * 2 ** 20;

const OUR_IMAGE = /^transit-relay(?:$|:)/u;
const COORDINATOR_IMAGE = /^valkey\/valkey:8$/u;

/** Requirements of Pod Security "restricted", and further hardening. */
export function securityProblems({ workloads }: Manifests): string[] {
  return workloads.flatMap((workload) => securityProblemsOf(workload));
}

function securityProblemsOf({ pod, containers }: Workload): string[] {
  const problems: string[] = [];
  const expect = (who: string, what: string, holds: boolean): void => {
    if (!holds) problems.push(`${who}: ${what}`);
  };
  const context = pod.at('securityContext');
  expect('pod', 'must run as a user other than root', context.at('runAsNonRoot').value === true);
  expect('pod', 'needs a numeric user id', (context.at('runAsUser').number ?? 0) > 0);
  expect('pod', 'needs the seccomp profile', context.at('seccompProfile', 'type').text === 'RuntimeDefault');
  expect('pod', 'has an API token', pod.at('automountServiceAccountToken').value === false);
  expect('pod', 'gets variables from Services', pod.at('enableServiceLinks').value === false);
  for (const shared of ['hostNetwork', 'hostPID', 'hostIPC'])
    expect('pod', `shares ${shared}`, pod.at(shared).value !== true);
  for (const volume of pod.at('volumes').items)
    expect('pod', 'mounts a host directory', !volume.at('hostPath').isThere);
  for (const container of containers) {
    const own = container.at('securityContext');
    const dropped = own.at('capabilities', 'drop').items.map((one) => one.word);
    const name = nameIn(container);
    expect(name, 'may gain privileges', own.at('allowPrivilegeEscalation').value === false);
    expect(name, 'has a writable root file system', own.at('readOnlyRootFilesystem').value === true);
    expect(name, 'has capabilities', dropped.includes('ALL') && !own.at('capabilities', 'add').isThere);
    expect(name, 'is privileged', own.at('privileged').value !== true);
    expect(name, 'may be root', own.at('runAsNonRoot').value !== false && own.at('runAsUser').value !== 0);
    for (const port of container.at('ports').items)
      expect(name, 'uses a host port', !port.at('hostPort').isThere);
  }
  return problems;
}

/** The kernel's buffers of the relay's connections are bounded, by nothing that a kubelet rejects. */
export function socketBufferProblems({ pod }: Manifests): string[] {
  const sysctls = pod.at('securityContext', 'sysctls').items;
  const unsafe = sysctls.map(nameIn).filter((name) => !BUFFER_SYSCTLS.includes(name));
  const problems = unsafe.map((name) => `kubelets reject ${name}`);
  // The third number is the maximum.
  const bytes = BUFFER_SYSCTLS.map((name) => {
    const value = sysctls.find((one) => nameIn(one) === name)?.at('value').word ?? '';
    return Number(value.split(' ')[2] ?? Number.POSITIVE_INFINITY);
  });
  if (!(bytes.reduce((sum, one) => sum + one, 0) <= MAX_BUFFER_BYTES))
    problems.push('the kernel buffers too much for a connection');
  return problems;
}

/** Each container sets requests and limits; the relay has no CPU limit. */
export function resourceProblems({ workloads }: Manifests): string[] {
  const problems: string[] = [];
  for (const container of workloads.flatMap(({ containers }) => containers)) {
    const name = nameIn(container);
    const { requests, limits } = {
      requests: container.at('resources', 'requests'),
      limits: container.at('resources', 'limits'),
    };
    for (const [kind, from] of [
      ['cpu', requests],
      ['memory', requests],
      ['memory', limits],
    ] as const)
      if (!from.at(kind).isThere) problems.push(`${name}: ${kind} is not set`);
    for (const [kind, limit] of limits.fields) {
      const request = requests.at(kind);
      if (request.isThere && parseQuantity(request.word) > parseQuantity(limit.word))
        problems.push(`${name}: requests more ${kind} than its limit`);
    }
    if (limits.at('cpu').isThere) problems.push(`${name}: has a CPU limit`);
  }
  return problems;
}

/**
 * The relay has all probes. The sidecar has a startup probe in a cluster, where a rollout must stop, and none
 * for a single relay.
 */
export function probeProblems(manifests: Manifests): string[] {
  const problems: string[] = [];
  const relay = manifests.container('relay');
  for (const probe of ['startupProbe', 'readinessProbe'])
    if (relay.at(probe, 'httpGet', 'path').text !== '/readyz')
      problems.push(`${probe} does not request /readyz`);
  const liveness = relay.at('livenessProbe');
  if (liveness.at('httpGet', 'path').text !== '/livez')
    problems.push('livenessProbe does not request /livez');
  const timeoutSeconds =
    (liveness.at('periodSeconds').number ?? 10) * (liveness.at('failureThreshold').number ?? 3);
  if (timeoutSeconds < MIN_LIVENESS_SECONDS)
    problems.push(`${timeoutSeconds} s without a response end all transfers`);
  for (const container of manifests.containers) {
    for (const probe of ['startupProbe', 'livenessProbe'].filter((one) => container.at(one).isThere)) {
      const grace = container.at(probe, 'terminationGracePeriodSeconds').number ?? Number.POSITIVE_INFINITY;
      if (grace > MAX_PROBE_GRACE_SECONDS)
        problems.push(`${nameIn(container)} is down for a whole drain when ${probe} fails`);
    }
  }
  for (const container of manifests.workloads.flatMap(({ containers }) => containers)) {
    const startup = container.at('startupProbe');
    // Each failed probe is an event. The other probes start when the startup probe has succeeded.
    const first = startup.isThere
      ? [startup]
      : [container.at('livenessProbe'), container.at('readinessProbe')];
    if (first.some((probe) => probe.isThere && (probe.at('initialDelaySeconds').number ?? 0) === 0))
      problems.push(`${nameIn(container)} is probed before it can answer`);
  }
  for (const container of manifests.pod.at('initContainers').items) {
    const name = nameIn(container);
    if (container.at('restartPolicy').text !== 'Always')
      problems.push(`${name} must end before the relay starts`);
    const isWaitedFor = container.at('startupProbe').isThere;
    if (isWaitedFor && !isCluster(manifests)) problems.push(`the relay waits for the start of ${name}`);
    if (!isWaitedFor && isCluster(manifests))
      problems.push(`a rollout continues although ${name} does not start`);
    if (container.at('readinessProbe').isThere) problems.push(`the relay is not ready while ${name} is not`);
  }
  return problems;
}

/** Written paths are on writable volumes, and the sidecar reads the relay's database. */
export function volumeProblems(manifests: Manifests): string[] {
  const { pod, relay } = manifests;
  const problems: string[] = [];
  const claims = relay.at('spec', 'volumeClaimTemplates').items.map(nameOf);
  const volumes = new Set([...claims, ...pod.at('volumes').items.map(nameIn)]);
  const mounts = manifests.containers.flatMap((container) => container.at('volumeMounts').items);
  for (const mount of mounts)
    if (!volumes.has(nameIn(mount))) problems.push(`there is no volume ${nameIn(mount)}`);
  const isWritable = (container: string, path: string): void => {
    const mount = mountOf(manifests.container(container), path);
    if (mount === null || mount.at('readOnly').value === true)
      problems.push(`${container} cannot write ${path}`);
  };
  if (
    mounts.length > 0 &&
    pod.at('securityContext', 'fsGroup').value !== pod.at('securityContext', 'runAsGroup').value
  )
    problems.push('the volume does not get the group of the relay');
  const [read, sidecar] = [readRelay(manifests), readSidecar(manifests)];
  if (read.kind === 'errors') return problems;
  const { usage, quota } = read.config;
  if (usage.databasePath !== null) isWritable('relay', usage.databasePath);
  if (quota !== null) isWritable('relay', quota.path);
  if (sidecar.kind === 'errors' || !manifests.container('sidecar').isThere) return problems;
  isWritable('sidecar', sidecar.config.snapshots.directory);
  const written = placeOf(manifests.container('relay'), usage.databasePath ?? '');
  const source = sidecar.config.usageDatabasePath;
  if (placeOf(manifests.container('sidecar'), source) !== written)
    problems.push('the sidecar reads another database than the relay writes');
  if (mountOf(manifests.container('sidecar'), source)?.at('readOnly').value !== true)
    problems.push('the sidecar can write the database');
  return problems;
}

/** The mount of a path: the one with the longest prefix. */
function mountOf(container: Tree, path: string): Tree | null {
  const found = container
    .at('volumeMounts')
    .items.filter((mount) => `${path}/`.startsWith(`${mount.at('mountPath').word}/`))
    .toSorted((one, other) => other.at('mountPath').word.length - one.at('mountPath').word.length);
  return found[0] ?? null;
}

/** Location of a path, independent of the container: the volume, and the path in it. */
function placeOf(container: Tree, path: string): string {
  const mount = mountOf(container, path);
  if (mount === null) return '';
  return posix.join(
    nameIn(mount),
    mount.at('subPath').word,
    posix.relative(mount.at('mountPath').word, path),
  );
}

/** The operator chooses the namespace and the source of the image. */
export function placeProblems(manifests: Manifests): string[] {
  const problems: string[] = [];
  if (manifests.all('Namespace').length > 0)
    problems.push('the namespace is deleted with the relay, and everything in it');
  for (const object of manifests.objects)
    if (object.at('metadata', 'namespace').isThere)
      problems.push(`${nameOf(object)} has a namespace of its own`);
  for (const workload of manifests.workloads) {
    const isOurs = workload.name === nameOf(manifests.relay);
    for (const container of workload.containers) {
      const name = nameIn(container);
      const image = isOurs ? OUR_IMAGE : COORDINATOR_IMAGE;
      if (!image.test(container.at('image').word)) problems.push(`${name}: another image`);
      if (container.at('imagePullPolicy').text !== 'IfNotPresent')
        problems.push(`${name}: an image loaded onto the node is not used`);
      if (isOurs && container.at('command').isThere) problems.push(`${name}: runs without the image's init`);
    }
  }
  return problems;
}
