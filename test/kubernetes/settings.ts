import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../../src/config/config.ts';
import { readEnv } from '../../src/config/read-env.ts';
import type { ReadResult } from '../../src/config/read-env.ts';
import { readSidecarEnv } from '../../src/config/sidecar-config.ts';
import type { SidecarConfig } from '../../src/config/sidecar-config.ts';
import { ROOT } from '../support/docker.ts';
import { nameIn } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import type { Tree } from './tree.ts';

export type Settings = Readonly<Record<string, string>>;

/** In place of what an operator's Secret has. */
export const SECRET = '0123456789abcdef0123456789abcdef';

/** The variables that the image has by itself, from the last stage of the Dockerfile. */
export function imageSettings(): Settings {
  const [, last = ''] = readFileSync(join(ROOT, 'Dockerfile'), 'utf8').split(/^FROM debian.*$/mu);
  const [, lines = ''] = /^ENV ((?:.*\\\n)*.*)$/mu.exec(last) ?? [];
  const words = lines.replaceAll('\\\n', ' ').trim().split(/\s+/u);
  return Object.fromEntries(words.map((word) => word.split('=', 2)));
}

/**
 * The variables that the manifests give to a container, in the order in which Kubernetes takes them.
 *
 * @param secret what is in the Secret that is not in the manifests; null where there is none
 */
export function givenSettings(manifests: Manifests, container: Tree, secret: string | null): Settings {
  const settings: Record<string, string> = {};
  for (const source of container.at('envFrom').items) {
    const map = manifests.find(['ConfigMap', source.at('configMapRef', 'name').word]);
    for (const [name, value] of map.at('data').fields) settings[name] = value.word;
  }
  for (const variable of container.at('env').items) {
    const isSecret = variable.at('valueFrom', 'secretKeyRef').isThere;
    const value = isSecret ? secret : variable.at('value').word;
    if (value !== null) settings[nameIn(variable)] = value;
  }
  return settings;
}

/** What the relay makes of its settings, the image's own among them. */
export function readRelay(manifests: Manifests): ReadResult<Config> {
  const given = givenSettings(manifests, manifests.container('relay'), SECRET);
  return readEnv({ ...imageSettings(), ...given }, 1);
}

/** The same for the sidecar. */
export function readSidecar(manifests: Manifests, secret: string | null = SECRET): ReadResult<SidecarConfig> {
  const given = givenSettings(manifests, manifests.container('sidecar'), secret);
  return readSidecarEnv({ ...imageSettings(), ...given });
}

/** The relay's configuration. Throws where it would not start. */
export function relayConfig(manifests: Manifests): Config {
  const read = readRelay(manifests);
  if (read.kind === 'faults') throw new Error(read.faults.map(({ variable }) => variable).join());
  return read.config;
}
