import { closeSync, openSync, readSync } from 'node:fs';
import { errorCode } from '../process/errors.ts';

/** Larger than any secret or list of endpoints, in bytes. */
const MAX_FILE_BYTES = 65_536;

const ERROR_REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  EISDIR: 'it is a directory',
};

/**
 * Reads the file that a `…_FILE` variable names.
 *
 * @throws Error with a sentence for the operator
 */
export function readSecretFile(path: string): string {
  let bytes: Buffer;
  try {
    bytes = readUpToLimit(path);
  } catch (error) {
    const code = errorCode(error);
    throw new Error(ERROR_REASONS[code] ?? `it can't be read (${code})`, { cause: error });
  }
  if (bytes.length > MAX_FILE_BYTES)
    throw new Error(`it is larger than ${MAX_FILE_BYTES} bytes, the maximum for a value`);
  return bytes.toString('utf8');
}

/** Reads at most one byte more than the limit: special files have no known size and may be endless. */
function readUpToLimit(path: string): Buffer {
  const buffer = Buffer.alloc(MAX_FILE_BYTES + 1);
  const file = openSync(path, 'r');
  try {
    let length = 0;
    for (;;) {
      const count = readSync(file, buffer, length, buffer.length - length, null);
      length += count;
      if (count === 0 || length === buffer.length) return buffer.subarray(0, length);
    }
  } finally {
    closeSync(file);
  }
}
