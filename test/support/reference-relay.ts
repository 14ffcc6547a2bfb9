import { spawnSync } from 'node:child_process';
import { Program } from './programs.ts';

const TWISTD = 'twistd3';

/** Reason to skip tests that need the reference; false if it is installed. */
export function withoutReference(): string | false {
  return spawnSync(TWISTD, ['transitrelay', '--help']).status === 0
    ? false
    : 'needs the reference: apt-get install magic-wormhole-transit-relay';
}

/** Debian's magic-wormhole-transit-relay with a usage database. */
export class ReferenceRelay implements AsyncDisposable {
  readonly #program: Program;
  /** Loopback port for raw TCP. */
  readonly port: number;

  private constructor(program: Program, port: number) {
    this.#program = program;
    this.port = port;
  }

  /** Starts it and waits until it listens. It has written the row `current` by then. */
  static async start(usageDatabase: string): Promise<ReferenceRelay> {
    const options = ['--port=tcp:0:interface=127.0.0.1', `--usage-db=${usageDatabase}`];
    const program = new Program([TWISTD, '-n', '--pidfile=', 'transitrelay', ...options]);
    try {
      const [, port] = await program.waitForOutput(/Transit starting on (\d+)/u);
      return new ReferenceRelay(program, Number(port));
    } catch (error) {
      await program[Symbol.asyncDispose]();
      throw error;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program[Symbol.asyncDispose]();
  }
}
