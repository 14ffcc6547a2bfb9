import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { ensureSchema } from '../../src/usage/schema.ts';
import { Program, findProgram } from './programs.ts';

const WRITER = join(import.meta.dirname, 'usage-writer.ts');

/** Debian's Python, which has Debian's modules. */
const PYTHON = '/usr/bin/python3';

/** Exit code of the programs below if the reference's module is missing. */
const NO_REFERENCE = 77;

export interface UsageFileOptions {
  readonly rows?: number;
  /** `delete` is the mode of the reference. */
  readonly journalMode?: 'wal' | 'delete';
}

/**
 * Creates a closed usage database. Its records have 1, 2, 3, 1, 2, 3, … bytes and start one second apart.
 */
export function createUsageFile(
  path: string,
  { rows = 3, journalMode = 'wal' }: UsageFileOptions = {},
): void {
  const database = new Database(path);
  try {
    // It need not survive a power failure.
    database.pragma('synchronous = OFF');
    ensureSchema(database);
    database.pragma(`journal_mode = ${journalMode}`);
    addUsage(database, rows);
  } finally {
    database.close();
  }
}

/** Adds records like those of `createUsageFile` in one transaction. */
export function addUsage(database: Database.Database, rows: number): void {
  database
    .prepare(
      `WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)
       INSERT INTO usage SELECT 1600000000 + i, 10.5, 1.5, i % 3 + 1, 'happy' FROM n WHERE ? > 0`,
    )
    .run(rows, rows);
}

/** The number of records, and the sum of their bytes. */
export interface UsageSum {
  readonly rows: number;
  readonly bytes: number;
}

export const SUM_QUERY = 'SELECT count(*) AS rows, total(total_bytes) AS bytes FROM usage';

export function readUsageSum(database: Database.Database): UsageSum {
  const sum = database.prepare<[], UsageSum>(SUM_QUERY).get();
  if (sum === undefined) throw new Error('no result row');
  return sum;
}

/**
 * Starts a process that commits three records every 10 ms with the relay's own code. Resolves after its first
 * write.
 */
export async function startWriter(path: string, prefix: readonly string[] = []): Promise<Program> {
  const writer = new Program([...prefix, process.execPath, WRITER, path]);
  await writer.waitForOutput(/done\n/u);
  return writer;
}

/** Stops the writer like the relay: its files are closed. */
export async function stopWriter(writer: Program): Promise<void> {
  writer.kill('SIGTERM');
  await writer.succeeds(10_000);
}

/** Kills the writer during its work. */
export async function killWriter(writer: Program): Promise<void> {
  writer.kill('SIGKILL');
  await writer.succeeds(10_000).catch(() => undefined);
}

/**
 * Runs a Python program that can use the reference's `get_db`.
 *
 * @returns its output, or null if the reference is not installed; then the test is skipped
 */
export function runWithReference(context: TestContext, program: string, ...args: string[]): string | null {
  const whole = `import sys
try:
    from wormhole_transit_relay.database import get_db
except ImportError:
    sys.exit(${NO_REFERENCE})
${program}`;
  try {
    if (existsSync(PYTHON))
      return execFileSync(PYTHON, ['-c', whole, ...args], { encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    if (!(error instanceof Error && 'status' in error && error.status === NO_REFERENCE)) throw error;
  }
  context.skip('needs the reference: apt-get install magic-wormhole-transit-relay');
  return null;
}

/** capabilities(7) */
const CAP_SYS_ADMIN = 21n;

/** Whether this test can mount file systems; otherwise it is skipped. */
export function requireMount(context: TestContext): boolean {
  if (hasCapability(CAP_SYS_ADMIN) && findProgram('mount') !== null) return true;
  context.skip('needs root and mount(8): run it with sudo, and not in an unprivileged container');
  return false;
}

/** Root has all capabilities, except in a container without privileges. */
function hasCapability(bit: bigint): boolean {
  const found = /^CapEff:\s*([0-9a-f]+)$/mu.exec(readFileSync('/proc/self/status', 'utf8'));
  return found !== null && ((BigInt(`0x${found[1] ?? '0'}`) >> bit) & 1n) === 1n;
}

/** Mounts the directory read-only at another path, until the test ends. */
export function mountReadOnly(context: TestContext, directory: string): string {
  return mount(context, ['--bind', '-o', 'ro', directory]);
}

/** Mounts an in-memory file system, until the test ends. */
export function mountTmpfs(context: TestContext, options: string): string {
  return mount(context, ['-t', 'tmpfs', '-o', options, 'tmpfs']);
}

function mount(context: TestContext, args: readonly string[]): string {
  const directory = mkdtempSync(join(tmpdir(), 'relay-mount-'));
  execFileSync('mount', [...args, directory]);
  context.after(() => {
    execFileSync('umount', ['--lazy', directory]);
    // Not recursive: if the mount still exists, its files must not be removed.
    rmdirSync(directory);
  });
  return directory;
}
