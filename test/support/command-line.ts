import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { COMPILE_CACHE } from './compile-cache.ts';

export const TRANSIT_RELAY = join(import.meta.dirname, '..', '..', 'src', 'transit-relay.ts');

export interface Ended {
  readonly code: unknown;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `transit-relay` to its end, with this environment only. */
export function runCommandLine(
  words: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { env: { ...COMPILE_CACHE, ...env }, encoding: 'utf8' } as const;
    execFile(process.execPath, [TRANSIT_RELAY, ...words], options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : error.code, stdout, stderr }),
    );
  });
}
