import { statSync } from 'node:fs';

/** What stands for a name under which there is no file, or none that this process may see. */
const NO_FILE = 'none';

/**
 * Which file has this name now. A name that is given to another file, or to one that is made anew, has another identity;
 * one that is written to keeps its own.
 */
export function identityOf(path: string): string {
  try {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? NO_FILE : `${stat.dev}:${stat.ino}`;
  } catch {
    return NO_FILE;
  }
}
