import { formatConfigError } from '../../src/config/environment.ts';
import { RELAY_DEFAULTS } from '../../src/config/relay-config.ts';
import { SIDECAR_DEFAULTS } from '../../src/config/sidecar-config.ts';
import { connectionsWithinMemory } from '../../src/limits/memory-limit.ts';
import { nameIn } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { OPERATOR_SECRETS, SECRET } from './operator-secrets.ts';
import { parseQuantity } from './quantity.ts';
import { givenSettings, readRelay, readSidecar } from './settings.ts';
import type { Tree } from './tree.ts';

/** What is left of the grace when transfers are over, for records, the sidecar and a slow disk, in seconds. */
export const GRACE_MARGIN_SECONDS = 30;

/** Cluster autoscalers and their managed relatives wait no longer when they remove a node, in seconds. */
const MOST_GRACE_SECONDS = 600;

/** Fewer connections than this are too few for a relay that the manifests start. */
const LEAST_CONNECTIONS = 10_000;

const KNOWN: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  ['relay', new Set(Object.keys(RELAY_DEFAULTS))],
  ['sidecar', new Set(Object.keys(SIDECAR_DEFAULTS))],
]);

/** Every variable is one that the program knows, and is taken without a word. */
export function environmentFaults(manifests: Manifests): string[] {
  const faults: string[] = [];
  for (const container of manifests.containers) {
    const known = KNOWN.get(nameIn(container)) ?? new Set();
    const given = Object.keys(givenSettings(manifests, container, SECRET));
    for (const name of given.filter((variable) => !known.has(variable.replace(/_FILE$/u, ''))))
      faults.push(`${nameIn(container)} does not know ${name}`);
    for (const source of container.at('envFrom').items) {
      const name = source.at('configMapRef', 'name').word;
      if (!manifests.find(['ConfigMap', name]).isThere) faults.push(`there is no ConfigMap ${name}`);
    }
    for (const variable of container.at('env').items) {
      const secret = variable.at('valueFrom', 'secretKeyRef');
      if (secret.isThere && secret.at('optional').value !== true)
        faults.push(`the pod does not start without the Secret ${nameIn(secret)}`);
    }
  }
  const reads = [readRelay(manifests)];
  const withSidecar = manifests.container('sidecar').isThere;
  const sidecars = withSidecar ? [readSidecar(manifests), readSidecar(manifests, null)] : [];
  for (const read of [...reads, ...sidecars]) {
    if (read.kind === 'errors') faults.push(...read.errors.map(formatConfigError));
    faults.push(...read.warnings);
  }
  return faults;
}

/** The kubelet has more patience than the drain takes, and no more than others have. */
export function drainFaults(manifests: Manifests): string[] {
  const read = readRelay(manifests);
  if (read.kind === 'errors') return [];
  const { delayMs, timeoutMs } = read.config.drain;
  const needed =
    preStopSeconds(manifests.container('relay')) + (delayMs + timeoutMs) / 1000 + GRACE_MARGIN_SECONDS;
  // What Kubernetes takes where nothing is said.
  const grace = manifests.pod.at('terminationGracePeriodSeconds').number ?? 30;
  const faults: string[] = [];
  if (grace < needed) faults.push(`the grace is ${grace} s, and a drain may take ${needed} s`);
  if (grace > MOST_GRACE_SECONDS) faults.push(`a grace of ${grace} s is cut off at ${MOST_GRACE_SECONDS} s`);
  return faults;
}

/** How long a container that is told to go is let be before it hears of it; only what sleeps is known here. */
export function preStopSeconds(container: Tree): number {
  const hook = container.at('lifecycle', 'preStop');
  const [command, seconds] = hook.at('exec', 'command').items.map((word) => word.word);
  if (command === 'sleep') return Number(seconds);
  return hook.at('sleep', 'seconds').number ?? 0;
}

/** What is taken from Secrets that have to be there is in them when they were made as the README says. */
export function secretFaults({ workloads }: Manifests): string[] {
  const faults: string[] = [];
  const look = (secret: string, key: string): void => {
    if (OPERATOR_SECRETS.get(secret)?.has(key) !== true)
      faults.push(`nobody makes ${key} of a Secret ${secret}`);
  };
  for (const { pod, containers } of workloads) {
    for (const variable of containers.flatMap((container) => container.at('env').items)) {
      const secret = variable.at('valueFrom', 'secretKeyRef');
      if (secret.isThere) look(nameIn(secret), secret.at('key').word);
    }
    for (const secret of pod.at('volumes').items.map((volume) => volume.at('secret'))) {
      for (const item of secret.at('items').items) look(secret.at('secretName').word, item.at('key').word);
      const mode = secret.at('defaultMode').number ?? 0o644;
      if (secret.isThere && mode !== 0o440) faults.push('a Secret is for its group, and for nobody else');
    }
  }
  return faults;
}

/** The memory limit has room for the worst that the settings allow. */
export function memoryFaults(manifests: Manifests): string[] {
  const read = readRelay(manifests);
  if (read.kind === 'errors') return [];
  const { limits, bufferMemoryBytes, cluster } = read.config;
  const needs = { hasTls: cluster?.tls === true, isClustered: cluster !== null };
  const limit = parseQuantity(manifests.container('relay').at('resources', 'limits', 'memory').word);
  const fits = connectionsWithinMemory(limit, bufferMemoryBytes, needs);
  const asked = typeof limits.maxConnections === 'number' ? limits.maxConnections : LEAST_CONNECTIONS;
  return fits < asked ? [`the memory limit is ${limit}, and the relay has room for ${fits} connections`] : [];
}
