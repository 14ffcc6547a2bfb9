/** The code of a system or SQLite error, such as `ENOENT`. `unknown` if there is none. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown';
}
