import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { eventually } from './programs.ts';

/** A directory that is removed after the test. */
export async function scratch(context: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'relay-test-'));
  context.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Long enough for a busy machine; only a test that fails takes it. In milliseconds. */
const UNTIL_TIMEOUT_MS = 30_000;

/** Resolves when `holds` returns true. Rejects after 30 s. */
export async function until(holds: () => boolean): Promise<void> {
  await eventually(
    () => holds.toString(),
    UNTIL_TIMEOUT_MS,
    () => (holds() ? true : null),
  );
}
