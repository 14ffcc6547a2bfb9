import { readRelayConfig } from '../../../src/config/relay-config.ts';
import type { ConfigResult } from '../../../src/config/environment.ts';
import type { RelayConfig } from '../../../src/config/relay-config.ts';
import { readSidecarConfig } from '../../../src/config/sidecar-config.ts';
import type { SidecarConfig } from '../../../src/config/sidecar-config.ts';
import { imageSettings } from '../../support/image-settings.ts';
import { nameIn } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { OPERATOR_SECRETS, SECRET, secretFilesOf } from './operator-secrets.ts';
import type { Tree } from './tree.ts';
import { Workload } from './workload.ts';

export type Settings = Readonly<Record<string, string>>;

/** Replaces the kubelet's field values of the pod. */
const POD_ADDRESS = '10.244.0.7';

/**
 * Variables that the manifests give to a container, in the order of Kubernetes.
 *
 * @param optional content of optional Secrets; null if they do not exist
 * @param address address of the pod
 */
export function givenSettings(
  manifests: Manifests,
  container: Tree,
  optional: string | null,
  address = POD_ADDRESS,
): Settings {
  const settings: Record<string, string> = {};
  for (const source of container.at('envFrom').items) {
    const map = manifests.find(['ConfigMap', source.at('configMapRef', 'name').word]);
    for (const [name, value] of map.at('data').fields) settings[name] = value.word;
  }
  for (const variable of container.at('env').items) {
    const value = valueOf(variable, optional, address);
    if (value !== null) settings[nameIn(variable)] = value;
  }
  return settings;
}

function valueOf(variable: Tree, optional: string | null, address: string): string | null {
  const { secret, field } = {
    secret: variable.at('valueFrom', 'secretKeyRef'),
    field: variable.at('valueFrom', 'fieldRef', 'fieldPath'),
  };
  if (secret.at('optional').value === true) return optional;
  if (secret.isThere) return OPERATOR_SECRETS.get(nameIn(secret))?.get(secret.at('key').word) ?? null;
  if (field.isThere) return field.text === 'status.podIP' ? address : field.word;
  return variable.at('value').word;
}

/** The relay's configuration for its settings, including those of the image, at a pod's address. */
export function readRelay(manifests: Manifests, address?: string): ConfigResult<RelayConfig> {
  const relay = manifests.container('relay');
  const given = givenSettings(manifests, relay, SECRET, address);
  const files = secretFilesOf(new Workload(manifests.relay), relay);
  return readRelayConfig({ ...imageSettings(), ...given }, 1, (path) => {
    const file = files.find((one) => one.path === path);
    const text = OPERATOR_SECRETS.get(file?.secret ?? '')?.get(file?.key ?? '');
    if (text === undefined) throw new Error('there is no such file');
    return text;
  });
}

/** The same for the sidecar. */
export function readSidecar(
  manifests: Manifests,
  secret: string | null = SECRET,
): ConfigResult<SidecarConfig> {
  const given = givenSettings(manifests, manifests.container('sidecar'), secret);
  return readSidecarConfig({ ...imageSettings(), ...given });
}

/** The relay's configuration. Throws if it would not start. */
export function relayConfig(manifests: Manifests, address?: string): RelayConfig {
  const read = readRelay(manifests, address);
  if (read.kind === 'errors') throw new Error(read.errors.map(({ variable }) => variable).join());
  return read.config;
}

/** Whether the relays have a coordinator setting, valid or not. */
export function isCluster(manifests: Manifests): boolean {
  const given = givenSettings(manifests, manifests.container('relay'), SECRET);
  return ['RELAY_CLUSTER_URL', 'RELAY_CLUSTER_URL_FILE'].some((name) => (given[name] ?? '') !== '');
}
