import { accessSync, constants, statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { dirname } from 'node:path';
import { errorCode } from '../error-code.ts';

/** What keeps this process from writing a database, and what the operator can do about it, in one sentence. */
export function whyNotWritten(path: string): string {
  const directory = dirname(path);
  const closed = closedDirectory(directory);
  const itsOwner = statOf(directory)?.uid;
  if (closed === directory && itsOwner !== undefined) return whoseItIs(directory, itsOwner, 'EACCES');
  if (closed !== null) {
    return `this process may not look into "${closed}"; open that directory to user ${ownUid()}, or keep the database elsewhere`;
  }
  if (statOf(directory)?.isDirectory() !== true) return `there is no directory "${directory}"`;
  if (statOf(path)?.isDirectory() === true) return 'it is a directory';
  // SQLite writes into these files, and makes and removes all but the first in that directory.
  const needed = [path, `${path}-wal`, `${path}-shm`, `${path}-journal`, directory];
  for (const name of needed) {
    const owner = statOf(name)?.uid;
    const refusal = owner === undefined ? null : refusalOf(name, constants.W_OK);
    if (owner !== undefined && refusal !== null) return whoseItIs(name, owner, refusal);
  }
  return 'SQLite can not open it, though this process may write it';
}

function whoseItIs(what: string, owner: number, refusal: string): string {
  if (refusal === 'EROFS') return `"${what}" is on a file system that is mounted read-only`;
  const own = ownUid();
  return own === owner
    ? `this process may not write "${what}"; check its permissions`
    : `"${what}" belongs to user ${owner}, and this process runs as user ${own}; run "chown -R ${own} DIR", DIR being what the host has there, or start as user ${owner}`;
}

/** The uppermost directory on the way to `path`, and with it, that this process may not look into. */
function closedDirectory(path: string): string | null {
  const above = dirname(path);
  const closedAbove = above === path ? null : closedDirectory(above);
  if (closedAbove !== null) return closedAbove;
  const isClosed = statOf(path)?.isDirectory() === true && refusalOf(path, constants.X_OK) !== null;
  return isClosed ? path : null;
}

/** Not by name: the uid that a container was given need not have one. */
function ownUid(): number | undefined {
  return statOf('/proc/self')?.uid;
}

/** The code of the error that this process would get; null for none. */
function refusalOf(path: string, mode: number): string | null {
  try {
    accessSync(path, mode);
    return null;
  } catch (error) {
    return errorCode(error);
  }
}

/** Undefined where it is not there, and where this process may not look. */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
