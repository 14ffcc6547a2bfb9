import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { CONDITION_TIMEOUT_MS, eventually } from './programs.ts';

/** A directory that is removed after the test. */
export async function scratch(context: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'relay-test-'));
  // Hooks run in this order, so a program of the test may still write there.
  context.after(() => rm(directory, { recursive: true, force: true, maxRetries: 20 }));
  return directory;
}

/** Resolves when `holds` returns true. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  await eventually(
    () => holds.toString(),
    CONDITION_TIMEOUT_MS,
    async () => ((await holds()) ? true : null),
  );
}
