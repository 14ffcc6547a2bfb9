import { parseArgs } from 'node:util';
import type { ParseArgsOptionsConfig } from 'node:util';
import { closest, distance } from 'fastest-levenshtein';

/** Exit codes of commands; the last two are those of sysexits.h. */
export const EXIT = { ok: 0, failed: 1, usage: 64, badConfiguration: 78 } as const;

/** Arguments that a command cannot use. The message is a sentence without a final period. */
export class UsageError extends Error {}

/**
 * `util.parseArgs` with the words that are not options, for options that must be known.
 *
 * @throws UsageError
 */
export function parseArguments<const Options extends ParseArgsOptionsConfig>(
  args: readonly string[],
  options: Options,
) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    throw usageErrorOf(error, Object.keys(options));
  }
}

/** The messages of Node name the option in quotation marks. */
function usageErrorOf(error: unknown, options: readonly string[]): unknown {
  if (!(error instanceof TypeError) || !('code' in error)) return error;
  const [, name = ''] = /'(-[^' =]*)/u.exec(error.message) ?? [];
  const known = options.map((option) => `--${option}`);
  if (error.code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION')
    return new UsageError(`unknown option ${name}${similarTo(name, known)}`);
  if (error.code !== 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE') return error;
  const takesNone = error.message.includes('does not take');
  return new UsageError(`option ${name} ${takesNone ? 'takes no' : 'needs a'} value`);
}

/** A hint at the known word that is most similar to a mistyped one. Empty if none is similar. */
export function similarTo(word: string, known: readonly string[]): string {
  if (known.length === 0) return '';
  const nearest = closest(word, known);
  // Up to a third of the letters, or two swapped ones.
  const isSimilar = distance(word, nearest) <= Math.max(2, Math.floor(nearest.length / 3));
  return isSimilar ? `; the most similar one is ${nearest}` : '';
}
