import { distance } from 'fastest-levenshtein';
import { COMPOSE_MARKER, COMPOSE_SETTINGS } from './deployment.ts';
import type { ConfigWarning, Environment } from './environment.ts';

/** Suffix of variables that contain the path of a file with the value. */
export const FILE_SUFFIX = '_FILE';

/** Variables of LeastAuthority's image, and their successors. */
const RENAMED: ReadonlyMap<string, readonly [variable: string, valuePrefix: string]> = new Map([
  ['MW_RELAY_PORT', ['RELAY_LISTEN', 'tcp:']],
  ['MW_RELAY_WS_PORT', ['RELAY_WEBSOCKET_LISTEN', 'tcp:']],
  ['MW_RELAY_BLUR_USAGE', ['RELAY_BLUR_USAGE', '']],
]);

/**
 * Finds variables that the operator probably meant for this program, but that it does not have. Values are not
 * shown, because they may be secrets.
 */
export function findUnknownVariables(
  environment: Environment,
  prefix: string,
  variables: readonly string[],
): ConfigWarning[] {
  const known = new Set([...variables, ...variables.map((variable) => variable + FILE_SUFFIX)]);
  const isCompose = environment[COMPOSE_MARKER] !== undefined;
  return Object.entries(environment).flatMap(([name, value = '']): ConfigWarning[] => {
    if (known.has(name) || isServiceVariable(name, value)) return [];
    const [successor, valuePrefix] = RENAMED.get(name) ?? [];
    if (successor !== undefined && known.has(successor)) {
      const example = /^\d+$/u.test(value) ? `=${valuePrefix}${value}` : '';
      const message = `${name} is a variable of another image and has no effect; use ${successor}${example}`;
      return [{ event: 'renamed_variable', message }];
    }
    if (!name.startsWith(prefix)) return [];
    const substitute = COMPOSE_SETTINGS.get(name);
    if (substitute === undefined) {
      const hint = similarVariable(name, prefix, variables);
      const suffix = hint === null ? '' : `; the most similar variable is ${hint}`;
      return [{ event: 'unknown_variable', message: `${name} is unknown and has no effect${suffix}` }];
    }
    const advice = substitute === null ? '' : `; use ${substitute}`;
    const message = `${name} is a setting of docker-compose.yml and has no effect here${advice}`;
    return isCompose ? [] : [{ event: 'setting_without_effect', message }];
  });
}

/**
 * True for the variables that Kubernetes gives to each container for a Service, here `relay`, `relay-…` or
 * `sidecar`: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
 */
export function isServiceVariable(name: string, value: string): boolean {
  if (name.endsWith('_PORT') && /^(?:tcp|udp|sctp):\/\//u.test(value)) return true;
  return /_SERVICE_(?:HOST|PORT(?:_\w+)?)$|_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?$/u.test(name);
}

/** The variable that the operator probably meant; null if none is similar. */
function similarVariable(name: string, prefix: string, variables: readonly string[]): string | null {
  const isFile = name.endsWith(FILE_SUFFIX);
  const suffix = isFile ? FILE_SUFFIX : '';
  const wanted = name.slice(prefix.length, name.length - suffix.length);
  const candidates = variables.map((variable) => variable.slice(prefix.length));
  for (const isSimilar of [hasSameWords, isExtension, containsWords, hasFewTypos]) {
    const [found] = candidates
      .filter((candidate) => isSimilar(wanted, candidate))
      .toSorted((one, other) => distance(wanted, one) - distance(wanted, other));
    if (found !== undefined) return `${prefix}${found}${suffix}`;
  }
  return null;
}

/** LISTEN_WEBSOCKET and WEBSOCKET_LISTEN. */
function hasSameWords(one: string, other: string): boolean {
  return one.split('_').toSorted().join('_') === other.split('_').toSorted().join('_');
}

/** LISTENS and LISTEN, or USAGE and USAGE_DB. */
function isExtension(one: string, other: string): boolean {
  return one !== '' && (one.startsWith(other) || other.startsWith(one));
}

/** All words of one name are in the other: LOG_FD and USAGE_LOG_FD. */
function containsWords(one: string, other: string): boolean {
  const [words, otherWords] = [one.split('_'), other.split('_')];
  return words.every((word) => otherWords.includes(word)) || otherWords.every((word) => words.includes(word));
}

/** Two swapped letters count as two. With more, short names would be similar to everything. */
function hasFewTypos(one: string, other: string): boolean {
  return distance(one, other) <= Math.max(2, Math.floor(one.length / 4));
}
