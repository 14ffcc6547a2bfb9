import { readFileSync, readdirSync } from 'node:fs';
import { join, posix } from 'node:path';

/** Source texts by their path inside src, with `/` between its parts. */
export type Sources = ReadonlyMap<string, string>;

/** An import, with its specifier as written. */
export interface Import {
  readonly specifier: string;
  /** `type`: erased; `static`: loaded before the file runs; `dynamic`: loaded by a call of `import()`. */
  readonly kind: 'type' | 'static' | 'dynamic';
}

const COMMENTS_AND_STRINGS =
  /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\[\s\S]|[^`\\])*`/gu;

const IMPORTS = /\b(?:import|export)\b[^'"`;]*?\bfrom\s*(['"])(.+?)\1|\bimport\s*\(?\s*(['"`])(.+?)\3/gu;

/** All imports and re-exports of a source, including types. */
export function importsOf(source: string): Import[] {
  return [...withoutComments(source).matchAll(IMPORTS)].map(([statement, , from, , by]) => ({
    specifier: from ?? by ?? '',
    kind: kindOf(statement),
  }));
}

/** The path of an imported file inside src; null for a package. */
export function resolve(file: string, specifier: string): string | null {
  return specifier.startsWith('.') ? posix.join(posix.dirname(file), specifier) : null;
}

/** Removes comments and strings from a source. Expressions in template strings stay. */
export function codeOf(source: string): string {
  return source.replace(COMMENTS_AND_STRINGS, (found) =>
    found.startsWith('`') ? (found.match(/\$\{[^}]*\}/gu) ?? []).join(' ') : ' ',
  );
}

/** Reads all source files of src. */
export function readSources(): Sources {
  const root = join(import.meta.dirname, '..', '..', '..', 'src');
  // Declaration files describe packages as they are, including default exports.
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter(
    (file) => /\.[cm]?[jt]sx?$/u.test(file) && !file.endsWith('.d.ts'),
  );
  return new Map(files.map((file) => [file.replaceAll('\\', '/'), readFileSync(join(root, file), 'utf8')]));
}

/** If only single names are types (`import { type A }`), Node still loads the file. */
function kindOf(statement: string): Import['kind'] {
  if (/^import\s*\(/u.test(statement)) return 'dynamic';
  return /^(?:import|export)\s+type\b(?!\s*(?:,|from\b))/u.test(statement) ? 'type' : 'static';
}

function withoutComments(source: string): string {
  return source.replace(COMMENTS_AND_STRINGS, (found) => (found.startsWith('/') ? ' ' : found));
}
