import { join } from 'node:path';
import { parseEndpoint } from '../../src/config/endpoint.ts';
import { COMPILE_CACHE } from './compile-cache.ts';
import { CONDITION_TIMEOUT_MS, Program } from './programs.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'sidecar', 'main.ts');

/** The sidecar as a separate process, observed through its log. */
export class SidecarProcess implements AsyncDisposable {
  readonly #program: Program;
  /** Its URL, without a trailing slash. */
  readonly url: string;

  private constructor(program: Program, url: string) {
    this.#program = program;
    this.url = url;
  }

  /**
   * Starts it and waits until it listens, by default on a free loopback port. It does not
   * inherit SIDECAR_* variables.
   */
  static async start(settings: Readonly<Record<string, string>>): Promise<SidecarProcess> {
    const env = {
      PATH: process.env['PATH'],
      ...COMPILE_CACHE,
      SIDECAR_LISTEN: 'tcp:0:interface=127.0.0.1',
      ...settings,
    };
    const program = new Program([process.execPath, MAIN], { env });
    try {
      const [, text = ''] = await program.waitForOutput(/"role":"sidecar","endpoint":("[^"]+")/u);
      const name: unknown = JSON.parse(text);
      const endpoint = parseEndpoint(String(name));
      if (endpoint.kind !== 'tcp') throw new Error('the sidecar listens on no port');
      return new SidecarProcess(program, `http://127.0.0.1:${endpoint.port}`);
    } catch (error) {
      await program[Symbol.asyncDispose]();
      throw error;
    }
  }

  get pid(): number {
    return this.#program.pid;
  }

  /** Its log so far. */
  get log(): string {
    return this.#program.stdout;
  }

  get stderr(): string {
    return this.#program.stderr;
  }

  /** Waits for the first match in its log or its error output. */
  waitForLog(pattern: RegExp): Promise<RegExpExecArray> {
    return this.#program.waitForOutput(pattern);
  }

  /** Stops it with SIGTERM. Rejects unless it exits with code 0. */
  async stop(): Promise<void> {
    this.#program.kill('SIGTERM');
    await this.#program.succeeds(CONDITION_TIMEOUT_MS);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program[Symbol.asyncDispose]();
  }
}
