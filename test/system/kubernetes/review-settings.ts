import { formatConfigError } from '../../../src/config/environment.ts';
import { RELAY_DEFAULTS } from '../../../src/config/relay-config.ts';
import { SIDECAR_DEFAULTS } from '../../../src/config/sidecar-config.ts';
import { connectionsWithinMemory } from '../../../src/limits/capacity.ts';
import { nameIn } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { OPERATOR_SECRETS, SECRET } from './operator-secrets.ts';
import { parseQuantity } from './quantity.ts';
import { givenSettings, readRelay, readSidecar } from './settings.ts';
import type { Tree } from './tree.ts';

/** Part of the grace period after the drain, for records, the sidecar and a slow disk, in seconds. */
export const GRACE_MARGIN_SECONDS = 30;

/** Cluster autoscalers and managed variants wait no longer when they remove a node, in seconds. */
const MAX_GRACE_SECONDS = 600;

/** Fewer connections are too few for a relay of the manifests. */
const MIN_CONNECTIONS = 10_000;

const KNOWN: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  ['relay', new Set(Object.keys(RELAY_DEFAULTS))],
  ['sidecar', new Set(Object.keys(SIDECAR_DEFAULTS))],
]);

/** Every variable is known to the program and accepted without a warning. */
export function environmentProblems(manifests: Manifests): string[] {
  const problems: string[] = [];
  for (const container of manifests.containers) {
    const known = KNOWN.get(nameIn(container)) ?? new Set();
    const given = Object.keys(givenSettings(manifests, container, SECRET));
    for (const name of given.filter((variable) => !known.has(variable.replace(/_FILE$/u, ''))))
      problems.push(`${nameIn(container)} does not know ${name}`);
    for (const source of container.at('envFrom').items) {
      const name = source.at('configMapRef', 'name').word;
      if (!manifests.find(['ConfigMap', name]).isThere) problems.push(`there is no ConfigMap ${name}`);
    }
    for (const variable of container.at('env').items) {
      const secret = variable.at('valueFrom', 'secretKeyRef');
      if (secret.isThere && secret.at('optional').value !== true)
        problems.push(`the pod does not start without the Secret ${nameIn(secret)}`);
    }
  }
  const reads = [readRelay(manifests)];
  const withSidecar = manifests.container('sidecar').isThere;
  const sidecars = withSidecar ? [readSidecar(manifests), readSidecar(manifests, null)] : [];
  for (const read of [...reads, ...sidecars]) {
    if (read.kind === 'errors') problems.push(...read.errors.map(formatConfigError));
    problems.push(...read.warnings.map(({ message }) => message));
  }
  return problems;
}

/** The grace period is longer than a drain, and not longer than autoscalers allow. */
export function drainProblems(manifests: Manifests): string[] {
  const read = readRelay(manifests);
  if (read.kind === 'errors') return [];
  const { delayMs, timeoutMs } = read.config.drain;
  const needed =
    preStopSeconds(manifests.container('relay')) + (delayMs + timeoutMs) / 1000 + GRACE_MARGIN_SECONDS;
  // Kubernetes' default.
  const grace = manifests.pod.at('terminationGracePeriodSeconds').number ?? 30;
  const problems: string[] = [];
  if (grace < needed) problems.push(`the grace period is ${grace} s, and a drain may take ${needed} s`);
  if (grace > MAX_GRACE_SECONDS)
    problems.push(`a grace period of ${grace} s is cut to ${MAX_GRACE_SECONDS} s`);
  return problems;
}

/**
 * Time between the deletion of a pod and SIGTERM for a container. Only a sleeping preStop command is
 * supported here.
 */
export function preStopSeconds(container: Tree): number {
  const hook = container.at('lifecycle', 'preStop');
  const [command, seconds] = hook.at('exec', 'command').items.map((word) => word.word);
  if (command === 'sleep') return Number(seconds);
  return hook.at('sleep', 'seconds').number ?? 0;
}

/** Required Secrets contain the used keys if they are created as in docs/kubernetes.md. */
export function secretProblems({ workloads }: Manifests): string[] {
  const problems: string[] = [];
  const check = (secret: string, key: string): void => {
    if (OPERATOR_SECRETS.get(secret)?.has(key) !== true)
      problems.push(`no command creates ${key} of a Secret ${secret}`);
  };
  for (const { pod, containers } of workloads) {
    for (const variable of containers.flatMap((container) => container.at('env').items)) {
      const secret = variable.at('valueFrom', 'secretKeyRef');
      if (secret.isThere) check(nameIn(secret), secret.at('key').word);
    }
    for (const secret of pod.at('volumes').items.map((volume) => volume.at('secret'))) {
      for (const item of secret.at('items').items) check(secret.at('secretName').word, item.at('key').word);
      const mode = secret.at('defaultMode').number ?? 0o644;
      if (secret.isThere && mode !== 0o440) problems.push('a Secret is not limited to its group');
    }
  }
  return problems;
}

/** The memory limit is large enough for the worst case of the settings. */
export function memoryProblems(manifests: Manifests): string[] {
  const read = readRelay(manifests);
  if (read.kind === 'errors') return [];
  const { limits, bufferMemoryBytes, cluster } = read.config;
  const needs = { hasTls: cluster?.tls === true, isClustered: cluster !== null, hasTcp: true };
  const limit = parseQuantity(manifests.container('relay').at('resources', 'limits', 'memory').word);
  const fits = connectionsWithinMemory(limit, bufferMemoryBytes, needs);
  const asked = typeof limits.maxConnections === 'number' ? limits.maxConnections : MIN_CONNECTIONS;
  return fits < asked ? [`the memory limit is ${limit}, and the relay can hold ${fits} connections`] : [];
}
