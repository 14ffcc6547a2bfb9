import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Time limit for a condition, in milliseconds. It ends broken tests only: much longer than anything takes on a busy machine, but
 * below the time limit of a test, so that the error names the condition.
 */
export const CONDITION_TIMEOUT_MS = 45_000;

/** Time for a program to end after SIGTERM before it is killed, in milliseconds. */
const STOP_TIMEOUT_MS = 15_000;

/** Longest pause between two probes of a condition, in milliseconds. The first ones are shorter. */
const MAX_POLL_MS = 20;

/** The path of a program, or null if it is not installed. Includes directories that only root's PATH has. */
export function findProgram(name: string): string | null {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  for (const directory of directories.filter((path) => path !== '')) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this directory.
    }
  }
  return null;
}

export interface ProgramOptions {
  readonly cwd?: string;
  /** The complete environment of the child, not an addition to ours. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

const running = new Set<Program>();

// An aborted test run leaves no processes behind.
process.once('exit', () => {
  for (const program of running) program.kill('SIGKILL');
});

/** A child process and its output so far. */
export class Program implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #commandLine: string;
  readonly #end: Promise<void>;
  readonly #watchers = new Set<() => void>();
  #ending: string | null = null;
  #stdout = '';
  #stderr = '';

  constructor(command: readonly string[], { cwd, env }: ProgramOptions = {}) {
    const [file = '', ...args] = command;
    this.#commandLine = command.join(' ');
    this.#child = spawn(file, args, {
      stdio: 'pipe',
      ...(cwd === undefined ? {} : { cwd }),
      ...(env === undefined ? {} : { env }),
    });
    running.add(this);
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
      this.#changed();
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
      this.#changed();
    });
    // A child that has ended does not read its input; its exit code is checked instead.
    this.#child.stdin.on('error', () => undefined);
    this.#end = new Promise((resolve) => {
      const ended = (how: string): void => {
        this.#ending ??= how;
        running.delete(this);
        this.#changed();
        resolve();
      };
      this.#child.once('error', (error) => ended(error.message));
      this.#child.once('close', (code, signal) => ended(signal ?? `exit code ${code}`));
    });
  }

  /** Throws if the program could not be started. */
  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(this.#report('did not start'));
    return this.#child.pid;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Waits for the first match in either output. Rejects if the program ends, or at the timeout. */
  waitForOutput(pattern: RegExp, timeoutMs = CONDITION_TIMEOUT_MS): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const check = (): void => {
        const found = pattern.exec(this.#stdout) ?? pattern.exec(this.#stderr);
        if (found === null && this.#ending === null) return;
        clearTimeout(timer);
        this.#watchers.delete(check);
        if (found === null) reject(new Error(this.#report(`ended before it printed ${pattern}`)));
        else resolve(found);
      };
      const timer = setTimeout(() => {
        this.#watchers.delete(check);
        reject(new Error(this.#report(`did not print ${pattern} within ${timeoutMs} ms`)));
      }, timeoutMs);
      this.#watchers.add(check);
      check();
    });
  }

  /** Waits until the program ends by itself. Rejects if the exit code is not 0. */
  async succeeds(timeoutMs: number): Promise<void> {
    await this.#endsWithin(timeoutMs);
    if (this.#ending === null) throw new Error(this.#report(`still running after ${timeoutMs} ms`));
    if (this.#ending !== 'exit code 0') throw new Error(this.#report('failed'));
  }

  /** Writes to the program's input. */
  write(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Ends the program's input. */
  endInput(): void {
    this.#child.stdin.end();
  }

  /** Sends a signal to this process only. */
  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends the program, first with SIGTERM. Does nothing if it has already ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ending !== null) return;
    this.kill('SIGTERM');
    await this.#endsWithin(STOP_TIMEOUT_MS);
    if (this.#ending === null) this.kill('SIGKILL');
    await this.#end;
  }

  async #endsWithin(timeoutMs: number): Promise<void> {
    const timeIsUp = new AbortController();
    const deadline = sleep(timeoutMs, undefined, { signal: timeIsUp.signal }).catch(() => undefined);
    await Promise.race([this.#end, deadline]);
    timeIsUp.abort();
  }

  #changed(): void {
    for (const watcher of this.#watchers) watcher();
  }

  #report(what: string): string {
    const how = this.#ending === null ? '' : ` (${this.#ending})`;
    return `${this.#commandLine}: ${what}${how}\n--- stdout\n${this.#stdout}\n--- stderr\n${this.#stderr}`;
  }
}

/**
 * Polls until the result is not null. For conditions without an event. Most of them are soon fulfilled.
 *
 * @param what describes the missing condition for the error
 */
export async function eventually<T>(
  what: () => string,
  timeoutMs: number,
  probe: () => T | null | Promise<T | null>,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (let pauseMs = 1; ; pauseMs = Math.min(2 * pauseMs, MAX_POLL_MS)) {
    const answer = await probe();
    if (answer !== null) return answer;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what()}`);
    await sleep(pauseMs);
  }
}

/** Reasons of a failed start of a relay or sidecar, from the last log line. Throws if its level is not `fatal`. */
export function fatalReasons(stdout: string): readonly string[] {
  const last: unknown = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
  assert.ok(typeof last === 'object' && last !== null, stdout);
  assert.ok('level' in last && last.level === 'fatal', stdout);
  assert.ok('reasons' in last && Array.isArray(last.reasons), stdout);
  return last.reasons.map(String);
}
