import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { RELAY_DEFAULTS } from '../../../src/config/relay-config.ts';
import { SIDECAR_DEFAULTS } from '../../../src/config/sidecar-config.ts';
import { imageSettings } from '../../support/image-settings.ts';

export const ROOT = join(import.meta.dirname, '..', '..', '..');

export function read(...path: readonly string[]): string {
  return readFileSync(join(ROOT, ...path), 'utf8');
}

/** The defaults of a variable of the programs. Null: the same as without a container, or in the image. */
export interface Defaults {
  readonly code: string;
  readonly image: string | null;
  readonly compose: string | null;
}

type Environment = Readonly<Record<string, string | null>>;

interface ComposeFile {
  readonly services: Readonly<Record<'relay' | 'sidecar', { readonly environment: Environment }>>;
}

/** A variable in a compose file, with its default: `${RELAY_PORT:-4001}`, `${RELAY_LISTEN-tcp:4001}`, `${NAME}`. */
const REFERENCE = /\$\{(?<name>[A-Z_]+)(?::?-(?<standard>[^}]*)|:?\?[^}]*)?\}/gu;

/** All variables of the relay and of the sidecar. */
export function programDefaults(): ReadonlyMap<string, Defaults> {
  const { services }: ComposeFile = parse(read('docker-compose.yml'), { merge: true });
  const image = imageSettings();
  const programs = [
    [RELAY_DEFAULTS, services.relay.environment],
    [SIDECAR_DEFAULTS, services.sidecar.environment],
  ] as const;
  return new Map(
    programs.flatMap(([defaults, environment]) =>
      Object.entries(defaults).map(([variable, code]) => {
        const inImage = image[variable] ?? code;
        const inCompose = environment[variable]?.replaceAll(REFERENCE, '$<standard>') ?? inImage;
        return [
          variable,
          {
            code,
            image: inImage === code ? null : inImage,
            compose: inCompose === inImage ? null : inCompose,
          },
        ];
      }),
    ),
  );
}

/** The variables that the compose files use and the programs do not, with their defaults. */
export function composeDefaults(): ReadonlyMap<string, string> {
  const programs = programDefaults();
  const found = new Map<string, string>();
  const files = readdirSync(join(ROOT, 'deploy', 'compose')).filter((name) => name.endsWith('.yml'));
  const texts = [read('docker-compose.yml'), ...files.map((name) => read('deploy', 'compose', name))];
  for (const { groups = {} } of texts.join('\n').matchAll(REFERENCE)) {
    const { name = '', standard = '' } = groups;
    if (programs.has(name)) continue;
    if ((found.get(name) ?? standard) !== standard) throw new Error(`${name} has two defaults`);
    found.set(name, standard);
  }
  return found;
}
