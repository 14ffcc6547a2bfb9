import { spawn } from 'node:child_process';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** How long a program may take to say that it is ready, in milliseconds, when the caller does not say. */
const OUTPUT_TIMEOUT_MS = 20_000;

/** How long a program may take to end after SIGTERM before it is killed, in milliseconds. */
const STOP_TIMEOUT_MS = 15_000;

const POLL_MS = 20;

/** The path of a program, or null where it is not installed. Looks where only root's PATH may lead, too. */
export function findProgram(name: string): string | null {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  for (const directory of directories.filter((path) => path !== '')) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this one.
    }
  }
  return null;
}

export interface ProgramOptions {
  readonly cwd?: string;
  /** All of the child's environment, not an addition to ours. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

const running = new Set<Program>();

// A test run that is broken off leaves nothing behind.
process.once('exit', () => {
  for (const program of running) program.kill('SIGKILL');
});

/** A child process with everything it has said so far. */
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
    // A child that is gone no longer reads; what counts is how it ended.
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

  /** Throws when there is none because the program could not be started. */
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

  /** Waits for the first match in either output. Rejects when the program ends or the time is over before. */
  waitForOutput(pattern: RegExp, timeoutMs = OUTPUT_TIMEOUT_MS): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const found = pattern.exec(this.#stdout) ?? pattern.exec(this.#stderr);
        if (found === null && this.#ending === null) return;
        clearTimeout(timer);
        this.#watchers.delete(look);
        if (found === null) reject(new Error(this.#report(`ended before it said ${pattern}`)));
        else resolve(found);
      };
      const timer = setTimeout(() => {
        this.#watchers.delete(look);
        reject(new Error(this.#report(`did not say ${pattern} within ${timeoutMs} ms`)));
      }, timeoutMs);
      this.#watchers.add(look);
      look();
    });
  }

  /** Waits for the program to end by itself. Rejects unless its exit code is 0. */
  async succeeds(timeoutMs: number): Promise<void> {
    await this.#endsWithin(timeoutMs);
    if (this.#ending === null) throw new Error(this.#report(`still runs after ${timeoutMs} ms`));
    if (this.#ending !== 'exit code 0') throw new Error(this.#report('failed'));
  }

  /** Writes to the program's input. */
  write(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Ends what the program reads. */
  endInput(): void {
    this.#child.stdin.end();
  }

  /** Sends a signal to this very process. */
  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends the program, kindly first. Does nothing when it has ended already. */
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
 * Asks again and again until the answer is not null. For what announces itself in no other way.
 *
 * @param what says in the end what did not come
 */
export async function eventually<T>(
  what: () => string,
  timeoutMs: number,
  probe: () => T | null,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = probe();
    if (answer !== null) return answer;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what()}`);
    await sleep(POLL_MS);
  }
}
