import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../support/docker.ts';
import type { Tree } from './tree.ts';
import type { Workload } from './workload.ts';

/** Replaces the output of `openssl rand -hex 32`. */
export const SECRET = '0123456789abcdef0123456789abcdef';

/** Keys and values of a Secret. */
export type Secret = ReadonlyMap<string, string>;

/** The Secrets that operators create by name, with the commands of docs/kubernetes.md. */
export const OPERATOR_SECRETS: ReadonlyMap<string, Secret> = readSecrets();

function readSecrets(): Map<string, Secret> {
  const page = readFileSync(join(ROOT, 'docs', 'kubernetes.md'), 'utf8');
  const plain = page.replaceAll('$(openssl rand -hex 32)', SECRET).replaceAll('$password', SECRET);
  const commands = [...plain.matchAll(/kubectl create secret generic (\S+)((?:\s+(?:\\\n\s+)?--\S+)+)/gu)];
  return new Map(
    commands.map(([, name = '', options = '']) => {
      const literals = [...options.matchAll(/--from-literal=(\w+)="([^"]*)"/gu)];
      return [name, new Map(literals.map(([, key = '', value = '']) => [key, value]))];
    }),
  );
}

/** A file that a container gets from a Secret. */
export interface SecretFile {
  readonly volume: string;
  /** Relative to the volume. */
  readonly name: string;
  /** Path in the container. */
  readonly path: string;
  readonly secret: string;
  readonly key: string;
  /** Its permissions. */
  readonly mode: number;
}

/** All files that a container gets from Secrets. */
export function secretFilesOf({ pod }: Workload, container: Tree): readonly SecretFile[] {
  return container.at('volumeMounts').items.flatMap((mount) => {
    const volume = mount.at('name').word;
    const source = pod.at('volumes').items.find((one) => one.at('name').word === volume);
    const items = source?.at('secret', 'items').items ?? [];
    return items.map((item) => ({
      volume,
      name: item.at('path').word,
      path: `${mount.at('mountPath').word}/${item.at('path').word}`,
      secret: source?.at('secret', 'secretName').word ?? '',
      key: item.at('key').word,
      mode: source?.at('secret', 'defaultMode').number ?? 0o644,
    }));
  });
}
