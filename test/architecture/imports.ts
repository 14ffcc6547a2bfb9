import { readFileSync, readdirSync } from 'node:fs';
import { join, posix } from 'node:path';

/** Source texts by their path inside src, with `/` between its parts. */
export type Sources = ReadonlyMap<string, string>;

/** What a file names behind `from` or `import`, as it is written there. */
export interface Import {
  readonly specifier: string;
  /** `type`: gone when it runs; `first`: loaded before the file runs; `late`: by a call. */
  readonly kind: 'type' | 'first' | 'late';
}

const COMMENTS_AND_STRINGS =
  /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\[\s\S]|[^`\\])*`/gu;

const IMPORTS = /\b(?:import|export)\b[^'"`;]*?\bfrom\s*(['"])(.+?)\1|\bimport\s*\(?\s*(['"`])(.+?)\3/gu;

/** Each import and each export from elsewhere, types included. */
export function importsOf(source: string): Import[] {
  return [...withoutComments(source).matchAll(IMPORTS)].map(([statement, , from, , by]) => ({
    specifier: from ?? by ?? '',
    kind: kindOf(statement),
  }));
}

/** The path inside src of what a file imports, or null for a package. */
export function resolve(file: string, specifier: string): string | null {
  return specifier.startsWith('.') ? posix.join(posix.dirname(file), specifier) : null;
}

/** Leaves of a source what runs: no comments, and of strings only what templates compute. */
export function codeOf(source: string): string {
  return source.replace(COMMENTS_AND_STRINGS, (found) =>
    found.startsWith('`') ? (found.match(/\$\{[^}]*\}/gu) ?? []).join(' ') : ' ',
  );
}

/** All of src. */
export function readSources(): Sources {
  const root = join(import.meta.dirname, '..', '..', 'src');
  // What types a package lacks is written as that package has it, default exports and all.
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter(
    (file) => /\.[cm]?[jt]sx?$/u.test(file) && !file.endsWith('.d.ts'),
  );
  return new Map(files.map((file) => [file.replaceAll('\\', '/'), readFileSync(join(root, file), 'utf8')]));
}

/** Where single names are types and the statement is not, Node loads the file all the same. */
function kindOf(statement: string): Import['kind'] {
  if (/^import\s*\(/u.test(statement)) return 'late';
  return /^(?:import|export)\s+type\b(?!\s*(?:,|from\b))/u.test(statement) ? 'type' : 'first';
}

function withoutComments(source: string): string {
  return source.replace(COMMENTS_AND_STRINGS, (found) => (found.startsWith('/') ? ' ' : found));
}
