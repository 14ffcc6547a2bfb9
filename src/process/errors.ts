/** The code of a system or SQLite error, such as `ENOENT`. `unknown` if there is none. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown';
}

/**
 * The program cannot start for a reason that the operator can fix. The message is a sentence for the
 * operator.
 */
export class StartupError extends Error {}
