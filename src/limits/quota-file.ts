import { accessSync, constants, readFileSync, rmSync, statSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorCode } from '../process/error-code.ts';
import { StartupError } from '../process/startup-error.ts';
import type { SavedQuota } from './quota.ts';

/** The first member of each quota file, so that nobody's other file is taken for one, and overwritten. */
const KIND = 'magic-wormhole transit relay quota';

const VERSION = 1;

/** Follows the path of a file that is being written. */
const TEMPORARY_SUFFIX = '.unfinished';

/** A quota file is much smaller than this, in bytes. */
const MAX_BYTES = 4096;

/** The quota file cannot be used. */
export class QuotaFileError extends StartupError {}

/**
 * Reads what was used before a restart, and removes what a process that was killed while it wrote has left.
 *
 * @returns null when there is no file yet
 * @throws QuotaFileError when a file is there that can't be read, or is something else, or none could be written
 */
export function loadQuota(path: string): SavedQuota | null {
  try {
    rmSync(path + TEMPORARY_SUFFIX, { force: true });
    const directory = dirname(path);
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    const sentence = `the directory of the quota file "${path}" can not be written (${errorCode(error)})`;
    throw new QuotaFileError(sentence, { cause: error });
  }
  const text = readSmallFile(path);
  if (text === null) return null;
  const saved = parse(text);
  if (saved !== null) return saved;
  throw new QuotaFileError(
    `"${path}" is no quota file, or is damaged; name another file, or remove this one to begin with nothing used`,
  );
}

/**
 * Keeps the use of a quota in a file. At any moment, even when the process is killed or the power fails, what is there
 * is either what was saved last or what was saved before that.
 */
export class QuotaFile {
  readonly #path: string;
  readonly #onFailure: (code: string) => void;
  /** What is on disk. */
  #writtenText: string | null = null;
  /** What is to be there. */
  #desiredText: string | null = null;
  #writing: Promise<void> | null = null;
  #isFailing = false;

  /** @param failed told the error's code when a save fails, and not again before one has succeeded */
  constructor(path: string, failed: (code: string) => void) {
    this.#path = path;
    this.#onFailure = failed;
  }

  /**
   * Saves this, or what is newer by the time that a write in progress has ended. Nothing is written that is there
   * already. What fails is not tried again before the next call.
   *
   * @returns never rejects; resolves when nothing is being written any longer
   */
  save(saved: SavedQuota): Promise<void> {
    this.#desiredText = `${JSON.stringify({ kind: KIND, version: VERSION, ...saved })}\n`;
    if (this.#writing === null && this.#desiredText !== this.#writtenText) this.#writing = this.#write();
    return this.#writing ?? Promise.resolve();
  }

  async #write(): Promise<void> {
    try {
      while (this.#desiredText !== null && this.#desiredText !== this.#writtenText) {
        const text = this.#desiredText;
        await replaceFile(this.#path, text);
        this.#writtenText = text;
        this.#isFailing = false;
      }
    } catch (error) {
      // The file may be either one now.
      this.#writtenText = null;
      if (!this.#isFailing) this.#onFailure(errorCode(error));
      this.#isFailing = true;
    } finally {
      this.#writing = null;
    }
  }
}

async function replaceFile(path: string, text: string): Promise<void> {
  const unfinished = path + TEMPORARY_SUFFIX;
  try {
    await rm(unfinished, { force: true });
    const handle = await open(unfinished, 'wx', 0o644);
    try {
      await handle.writeFile(text);
      // Before the name: else a power cut may leave the name with nothing behind it.
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(unfinished, path);
  } catch (error) {
    // On a full disk even a little room helps. What went wrong first is what counts.
    await rm(unfinished, { force: true }).catch(() => null);
    throw error;
  }
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Null when it is not there. What can be no quota file is not read: a pipe would never end. */
function readSmallFile(path: string): string | null {
  try {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found === undefined) return null;
    return found.isFile() && found.size <= MAX_BYTES ? readFileSync(path, 'utf8') : '';
  } catch (error) {
    throw new QuotaFileError(`the quota file "${path}" can not be read (${errorCode(error)})`, {
      cause: error,
    });
  }
}

function parse(text: string): SavedQuota | null {
  try {
    const value: unknown = JSON.parse(text);
    if (!isQuota(value)) return null;
    const { day, period, relayedBytes } = value;
    return { day, period, relayedBytes };
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function isQuota(value: unknown): value is SavedQuota {
  if (typeof value !== 'object' || value === null) return false;
  if (!('kind' in value && 'version' in value)) return false;
  if (!('day' in value && 'period' in value && 'relayedBytes' in value)) return false;
  const { kind, version, day, period, relayedBytes } = value;
  return (
    kind === KIND &&
    version === VERSION &&
    typeof day === 'string' &&
    /^[+-]?\d{4,6}-\d\d-\d\d$/u.test(day) &&
    !Number.isNaN(Date.parse(day)) &&
    (period === 'month' || period === 'day') &&
    typeof relayedBytes === 'number' &&
    Number.isSafeInteger(relayedBytes) &&
    relayedBytes >= 0
  );
}
