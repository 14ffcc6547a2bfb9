import Database from 'better-sqlite3';
import { join } from 'node:path';
import { parseEndpoint } from '../../src/config/endpoint.ts';
import type { Endpoint } from '../../src/config/endpoint.ts';
import type { CurrentUsage } from '../../src/usage/record.ts';
import { COMPILE_CACHE } from './compile-cache.ts';
import { CONDITION_TIMEOUT_MS, Program } from './programs.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'main.ts');

const ANY_LOOPBACK_PORT = 'tcp:0:interface=127.0.0.1';

const ROLES = { raw: 'RELAY_LISTEN', websocket: 'RELAY_WEBSOCKET_LISTEN', status: 'RELAY_STATUS_LISTEN' };

type Role = keyof typeof ROLES | 'cluster';

/** The relay as a separate process, observed through its log. */
export class RelayProcess implements AsyncDisposable {
  readonly #program: Program;

  private constructor(program: Program) {
    this.#program = program;
  }

  /**
   * Starts the relay and waits until it listens on every endpoint, by default on free loopback ports. It does
   * not inherit RELAY_* variables.
   *
   * @param prefix a command that runs the relay, like `ip netns exec NAME`
   */
  static async start(
    settings: Readonly<Record<string, string>>,
    prefix: readonly string[] = [],
  ): Promise<RelayProcess> {
    const env: Record<string, string | undefined> = {
      PATH: process.env['PATH'],
      ...COMPILE_CACHE,
      RELAY_LISTEN: ANY_LOOPBACK_PORT,
      RELAY_STATUS_LISTEN: ANY_LOOPBACK_PORT,
      ...settings,
    };
    const program = new Program([...prefix, process.execPath, MAIN], { env });
    try {
      for (const [role, variable] of Object.entries(ROLES)) {
        if ((env[variable] ?? '') !== '')
          await program.waitForOutput(new RegExp(`"role":"${role}".*\n`, 'u'));
      }
    } catch (error) {
      await program[Symbol.asyncDispose]();
      throw error;
    }
    return new RelayProcess(program);
  }

  get pid(): number {
    return this.#program.pid;
  }

  /** Its log so far. */
  get log(): string {
    return this.#program.stdout;
  }

  /** Waits for the first match in its log. */
  waitForLog(pattern: RegExp): Promise<RegExpExecArray> {
    return this.#program.waitForOutput(pattern);
  }

  /** Sends a signal. */
  kill(signal: NodeJS.Signals): void {
    this.#program.kill(signal);
  }

  /** Resolves when it has ended with exit code 0; rejects otherwise. */
  ended(): Promise<void> {
    return this.#program.succeeds(CONDITION_TIMEOUT_MS);
  }

  /** The first port of that role. Throws if there is none. */
  port(role: Role): number {
    for (const { role: found, endpoint } of listening(this.#program.stdout)) {
      if (found === role && endpoint.kind === 'tcp') return endpoint.port;
    }
    throw new Error(`the relay does not listen for role ${role}`);
  }

  /** Stops it with SIGTERM. All records are on disk afterwards. Rejects if the exit code is not 0. */
  async stop(): Promise<void> {
    this.kill('SIGTERM');
    await this.ended();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program[Symbol.asyncDispose]();
  }
}

function listening(log: string): { readonly role: string; readonly endpoint: Endpoint }[] {
  return log
    .split('\n')
    .filter((line) => line.endsWith('}'))
    .map((line): unknown => JSON.parse(line))
    .filter(isListening)
    .map(({ role, endpoint }) => ({ role, endpoint: parseEndpoint(endpoint) }));
}

function isListening(entry: unknown): entry is { readonly role: string; readonly endpoint: string } {
  return (
    typeof entry === 'object' &&
    entry !== null &&
    'event' in entry &&
    entry.event === 'listening' &&
    'role' in entry &&
    typeof entry.role === 'string' &&
    'endpoint' in entry &&
    typeof entry.endpoint === 'string'
  );
}

/** A row of the table `usage`. */
export interface UsageRow {
  readonly started: number;
  readonly total_time: number;
  readonly waiting_time: number | null;
  readonly total_bytes: number;
  readonly result: string;
}

export interface UsageCount {
  readonly result: string;
  readonly total_bytes: number;
  readonly waited: number;
  readonly rows: number;
}

/** Reads the usage database with SQL, like an operator's script, while the relay runs or afterwards. */
export class UsageReader implements Disposable {
  readonly #database: Database.Database;

  constructor(path: string) {
    this.#database = new Database(path, { readonly: true });
  }

  /** All records, in the order they were written. */
  rows(): UsageRow[] {
    return this.#database.prepare<[], UsageRow>('SELECT * FROM usage ORDER BY rowid').all();
  }

  /** Number of records by everything except their times; `waited` is 1 if the client got a partner. */
  counts(): UsageCount[] {
    const sql = `SELECT result, total_bytes, waiting_time IS NOT NULL AS waited, count(*) AS rows
      FROM usage GROUP BY result, total_bytes, waited ORDER BY result, total_bytes, waited`;
    return this.#database.prepare<[], UsageCount>(sql).all();
  }

  /** The row of the table `current`; null until the relay has written it. */
  current(): CurrentUsage | null {
    return this.#database.prepare<[], CurrentUsage>('SELECT * FROM current').get() ?? null;
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}
