import { posix } from 'node:path';
import { nameIn, nameOf } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { parseQuantity } from './quantity.ts';
import { isGroup, readRelay, readSidecar } from './settings.ts';
import type { Tree } from './tree.ts';
import type { Workload } from './workload.ts';

/** A process that says nothing for so long hangs; no load makes it so, in seconds. */
const LEAST_LIVENESS_SECONDS = 60;

/** What hangs does not end by itself: it is killed soon, and not when a drain would be over, in seconds. */
const MOST_PROBE_GRACE_SECONDS = 60;

const OUR_IMAGE = /^transit-relay(?:$|:)/u;
const COORDINATOR_IMAGE = /^valkey\/valkey:8$/u;

/** What Pod Security "restricted" asks for, and what else keeps a break-in small. */
export function securityFaults({ workloads }: Manifests): string[] {
  return workloads.flatMap((workload) => securityFaultsOf(workload));
}

function securityFaultsOf({ pod, containers }: Workload): string[] {
  const faults: string[] = [];
  const expect = (who: string, what: string, holds: boolean): void => {
    if (!holds) faults.push(`${who}: ${what}`);
  };
  const context = pod.at('securityContext');
  expect('pod', 'has to run as a user that is not root', context.at('runAsNonRoot').value === true);
  expect('pod', 'needs the number of a user', (context.at('runAsUser').number ?? 0) > 0);
  expect('pod', 'needs the seccomp profile', context.at('seccompProfile', 'type').text === 'RuntimeDefault');
  expect('pod', 'has a token of the API', pod.at('automountServiceAccountToken').value === false);
  expect('pod', 'takes variables from Services', pod.at('enableServiceLinks').value === false);
  for (const shared of ['hostNetwork', 'hostPID', 'hostIPC'])
    expect('pod', `shares ${shared}`, pod.at(shared).value !== true);
  for (const volume of pod.at('volumes').items)
    expect('pod', 'has a directory of the node', !volume.at('hostPath').isThere);
  for (const container of containers) {
    const own = container.at('securityContext');
    const dropped = own.at('capabilities', 'drop').items.map((one) => one.word);
    const name = nameIn(container);
    expect(name, 'may get more rights', own.at('allowPrivilegeEscalation').value === false);
    expect(name, 'may write to its root', own.at('readOnlyRootFilesystem').value === true);
    expect(name, 'has capabilities', dropped.includes('ALL') && !own.at('capabilities', 'add').isThere);
    expect(name, 'is privileged', own.at('privileged').value !== true);
    expect(name, 'may be root', own.at('runAsNonRoot').value !== false && own.at('runAsUser').value !== 0);
    for (const port of container.at('ports').items)
      expect(name, 'has a port of the node', !port.at('hostPort').isThere);
  }
  return faults;
}

/** Each container says what it needs, and no more than it may have; the relay is not throttled. */
export function resourceFaults({ workloads }: Manifests): string[] {
  const faults: string[] = [];
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
      if (!from.at(kind).isThere) faults.push(`${name}: ${kind} is not said`);
    for (const [kind, limit] of limits.fields) {
      const request = requests.at(kind);
      if (request.isThere && parseQuantity(request.word) > parseQuantity(limit.word))
        faults.push(`${name}: asks for more ${kind} than it may have`);
    }
    if (limits.at('cpu').isThere) faults.push(`${name}: is throttled`);
  }
  return faults;
}

/** The relay has all probes. The sidecar has a startup probe in a group, where a rollout has to stop, and none for one relay. */
export function probeFaults(manifests: Manifests): string[] {
  const faults: string[] = [];
  const relay = manifests.container('relay');
  for (const probe of ['startupProbe', 'readinessProbe'])
    if (relay.at(probe, 'httpGet', 'path').text !== '/readyz') faults.push(`${probe} does not ask /readyz`);
  const liveness = relay.at('livenessProbe');
  if (liveness.at('httpGet', 'path').text !== '/livez') faults.push('livenessProbe does not ask /livez');
  const patience =
    (liveness.at('periodSeconds').number ?? 10) * (liveness.at('failureThreshold').number ?? 3);
  if (patience < LEAST_LIVENESS_SECONDS) faults.push(`${patience} s without an answer end all transfers`);
  for (const container of manifests.containers) {
    for (const probe of ['startupProbe', 'livenessProbe'].filter((one) => container.at(one).isThere)) {
      const grace = container.at(probe, 'terminationGracePeriodSeconds').number ?? Number.POSITIVE_INFINITY;
      if (grace > MOST_PROBE_GRACE_SECONDS)
        faults.push(`${nameIn(container)} is down for a whole drain when ${probe} fails`);
    }
  }
  for (const container of manifests.workloads.flatMap(({ containers }) => containers)) {
    const startup = container.at('startupProbe');
    // Each failed probe is an event. The others begin when the startup probe has succeeded.
    const first = startup.isThere
      ? [startup]
      : [container.at('livenessProbe'), container.at('readinessProbe')];
    if (first.some((probe) => probe.isThere && (probe.at('initialDelaySeconds').number ?? 0) === 0))
      faults.push(`${nameIn(container)} is probed before it can answer`);
  }
  for (const container of manifests.pod.at('initContainers').items) {
    const name = nameIn(container);
    if (container.at('restartPolicy').text !== 'Always')
      faults.push(`${name} has to end before the relay starts`);
    const isWaitedFor = container.at('startupProbe').isThere;
    if (isWaitedFor && !isGroup(manifests)) faults.push(`the relay does not start before ${name} has`);
    if (!isWaitedFor && isGroup(manifests)) faults.push(`a rollout goes on where ${name} does not start`);
    if (container.at('readinessProbe').isThere) faults.push(`the relay is not ready where ${name} is not`);
  }
  return faults;
}

/** What is written lies on a volume that may be written, and the sidecar reads what the relay writes. */
export function volumeFaults(manifests: Manifests): string[] {
  const { pod, relay } = manifests;
  const faults: string[] = [];
  const claims = relay.at('spec', 'volumeClaimTemplates').items.map(nameOf);
  const volumes = new Set([...claims, ...pod.at('volumes').items.map(nameIn)]);
  const mounts = manifests.containers.flatMap((container) => container.at('volumeMounts').items);
  for (const mount of mounts)
    if (!volumes.has(nameIn(mount))) faults.push(`there is no volume ${nameIn(mount)}`);
  const isWritable = (container: string, path: string): void => {
    const mount = mountOf(manifests.container(container), path);
    if (mount === null || mount.at('readOnly').value === true)
      faults.push(`${container} can't write ${path}`);
  };
  if (
    mounts.length > 0 &&
    pod.at('securityContext', 'fsGroup').value !== pod.at('securityContext', 'runAsGroup').value
  )
    faults.push('the volume is not given to the group of the relay');
  const [read, sidecar] = [readRelay(manifests), readSidecar(manifests)];
  if (read.kind === 'errors') return faults;
  const { usage, quota } = read.config;
  if (usage.databasePath !== null) isWritable('relay', usage.databasePath);
  if (quota !== null) isWritable('relay', quota.path);
  if (sidecar.kind === 'errors' || !manifests.container('sidecar').isThere) return faults;
  isWritable('sidecar', sidecar.config.snapshots.directory);
  const written = placeOf(manifests.container('relay'), usage.databasePath ?? '');
  const source = sidecar.config.usageDatabasePath;
  if (placeOf(manifests.container('sidecar'), source) !== written)
    faults.push('the sidecar reads another database than the relay writes');
  if (mountOf(manifests.container('sidecar'), source)?.at('readOnly').value !== true)
    faults.push('the sidecar could write the database');
  return faults;
}

/** The mount that a path is on: the longest that it begins with. */
function mountOf(container: Tree, path: string): Tree | null {
  const found = container
    .at('volumeMounts')
    .items.filter((mount) => `${path}/`.startsWith(`${mount.at('mountPath').word}/`))
    .toSorted((one, other) => other.at('mountPath').word.length - one.at('mountPath').word.length);
  return found[0] ?? null;
}

/** Where a path is, whoever has mounted it: the volume, and the path in that. */
function placeOf(container: Tree, path: string): string {
  const mount = mountOf(container, path);
  if (mount === null) return '';
  return posix.join(
    nameIn(mount),
    mount.at('subPath').word,
    posix.relative(mount.at('mountPath').word, path),
  );
}

/** The operator says into which namespace and from where. */
export function placeFaults(manifests: Manifests): string[] {
  const faults: string[] = [];
  if (manifests.all('Namespace').length > 0)
    faults.push('the namespace goes with the relay, and all that is in it');
  for (const object of manifests.objects)
    if (object.at('metadata', 'namespace').isThere)
      faults.push(`${nameOf(object)} is in a namespace of its own`);
  for (const workload of manifests.workloads) {
    const isOurs = workload.name === nameOf(manifests.relay);
    for (const container of workload.containers) {
      const name = nameIn(container);
      const image = isOurs ? OUR_IMAGE : COORDINATOR_IMAGE;
      if (!image.test(container.at('image').word)) faults.push(`${name}: another image`);
      if (container.at('imagePullPolicy').text !== 'IfNotPresent')
        faults.push(`${name}: an image that was brought to the node is not used`);
      if (isOurs && container.at('command').isThere) faults.push(`${name}: runs without the image's init`);
    }
  }
  return faults;
}
