import { chmodSync, cpSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { spawnSync } from 'node:child_process';

const ROOT = join(import.meta.dirname, '..', '..');

/** Files and folders that the programs need to run. The other packages are for developers. */
const PARTS = ['package.json', 'src', 'node_modules'];

/**
 * The checkout as every user may read it: the checkout itself, or a copy if it is in a private home
 * directory.
 */
export interface PublicCheckout {
  /** The Node binary, which every user can run. */
  readonly node: string;
  /** The URL of a source file; `path` is relative to `src`. */
  urlOf(path: string): string;
  pathOf(path: string): string;
}

let found: PublicCheckout | null = null;

/** Copies the files once per test process, if that is necessary. */
export function publicCheckout(): PublicCheckout {
  found ??= isPublic(join(ROOT, 'src', 'main.ts')) && isPublic(process.execPath) ? at(ROOT) : at(copy());
  return found;
}

function at(root: string): PublicCheckout {
  const pathOf = (path: string): string => join(root, 'src', path);
  const node = process.execPath.startsWith(`${ROOT}/`)
    ? process.execPath.replace(ROOT, root)
    : process.execPath;
  return { node, pathOf, urlOf: (path) => pathToFileURL(pathOf(path)).href };
}

function isPublic(path: string): boolean {
  if ((statSync(path).mode & 0o004) === 0) return false;
  for (let directory = dirname(path); directory !== '/'; directory = dirname(directory)) {
    if ((statSync(directory).mode & 0o001) === 0) return false;
  }
  return true;
}

function copy(): string {
  const root = mkdtempSync(join(tmpdir(), 'relay-checkout-'));
  process.once('exit', () => rmSync(root, { recursive: true, force: true }));
  for (const part of PARTS)
    cpSync(join(ROOT, part), join(root, part), { recursive: true, verbatimSymlinks: true });
  const { status } = spawnSync('chmod', ['-R', 'a+rX', root]);
  if (status !== 0) throw new Error(`cannot make "${root}" readable for all users`);
  chmodSync(root, 0o755);
  return root;
}
