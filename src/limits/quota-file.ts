import { accessSync, constants, readFileSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { UNFINISHED_SUFFIX, replaceDurably } from '../process/durable-file.ts';
import { StartupError, errorCode } from '../process/errors.ts';
import type { SavedQuota } from './quota.ts';

/** The first member of each quota file, so that no other file is mistaken for one and overwritten. */
const KIND = 'magic-wormhole transit relay quota';

const VERSION = 1;

/** A quota file is much smaller than this, in bytes. */
const MAX_BYTES = 4096;

/** The quota file cannot be used. */
export class QuotaFileError extends StartupError {}

/**
 * Reads the usage from before a restart. Removes the unfinished file of a process that was killed during a
 * write.
 *
 * @returns null if there is no file yet
 * @throws QuotaFileError if the file cannot be read, is not a quota file, or its directory is not writable
 */
export function loadQuota(path: string): SavedQuota | null {
  try {
    rmSync(path + UNFINISHED_SUFFIX, { force: true });
    accessSync(dirname(path), constants.W_OK | constants.X_OK);
  } catch (error) {
    const sentence = `cannot write to the directory of the quota file "${path}" (${errorCode(error)})`;
    throw new QuotaFileError(sentence, { cause: error });
  }
  const text = readSmallFile(path);
  if (text === null) return null;
  const saved = parse(text);
  if (saved !== null) return saved;
  throw new QuotaFileError(
    `"${path}" is not a quota file or is damaged; choose another path, or delete the file to start with an unused quota`,
  );
}

/**
 * Saves the usage of a quota in a file. After a crash or a power failure the file has either the last saved
 * state or the one before it.
 */
export class QuotaFile {
  readonly #path: string;
  readonly #onFailure: (code: string) => void;
  readonly #onRecovery: () => void;
  /** The text on disk. Null: not known. */
  #writtenText: string | null = null;
  /** The text to write. */
  #desiredText: string | null = null;
  #writing: Promise<void> | null = null;
  #isFailing = false;

  /**
   * @param onFailure called with the error code when a save fails, and not again until one has succeeded
   * @param onRecovery called when one has succeeded after that
   */
  constructor(path: string, onFailure: (code: string) => void, onRecovery: () => void) {
    this.#path = path;
    this.#onFailure = onFailure;
    this.#onRecovery = onRecovery;
  }

  /**
   * Saves this state, or a newer one if another call comes during a write. Does not write a state that is on
   * disk already. A failed write is retried with the next call.
   *
   * @returns never rejects; resolves when no write is in progress
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
        await replaceDurably(this.#path, text);
        this.#writtenText = text;
        if (this.#isFailing) this.#onRecovery();
        this.#isFailing = false;
      }
    } catch (error) {
      // The file may have the old or the new text now.
      this.#writtenText = null;
      if (!this.#isFailing) this.#onFailure(errorCode(error));
      this.#isFailing = true;
    } finally {
      this.#writing = null;
    }
  }
}

/**
 * Null if there is no file. Empty for anything that cannot be a quota file; reading a pipe would never end.
 */
function readSmallFile(path: string): string | null {
  try {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found === undefined) return null;
    return found.isFile() && found.size <= MAX_BYTES ? readFileSync(path, 'utf8') : '';
  } catch (error) {
    throw new QuotaFileError(`cannot read the quota file "${path}" (${errorCode(error)})`, {
      cause: error,
    });
  }
}

function parse(text: string): SavedQuota | null {
  try {
    const value: unknown = JSON.parse(text);
    if (!isQuota(value)) return null;
    const { day, period, relayedBytes, countsSinceMs } = value;
    return { day, period, relayedBytes, ...(typeof countsSinceMs === 'number' ? { countsSinceMs } : {}) };
  } catch {
    // Not JSON.
    return null;
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
