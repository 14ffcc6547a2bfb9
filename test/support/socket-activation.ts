import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { Program } from './programs.ts';

export const PYTHON = '/usr/bin/python3';
const LAUNCHER = join(import.meta.dirname, 'socket-activation.py');

/** Reason why sockets cannot be passed to programs here; null if they can. */
export function withoutSocketActivation(): string | null {
  try {
    accessSync(PYTHON, constants.X_OK);
    return null;
  } catch {
    return 'no python3: install the Debian package python3-minimal';
  }
}

export interface ActivationOptions {
  /** Sockets by name, each with `tcp:ADDRESS`, `unix:PATH` or `connected`. */
  readonly sockets: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Starts the program through a wrapper process, so that LISTEN_PID is not its own. */
  readonly isWrapped?: boolean;
}

/** A program that gets its sockets as from systemd. After it has ended, the next connection restarts it. */
export class Activation implements AsyncDisposable {
  readonly program: Program;
  readonly #ports: ReadonlyMap<string, unknown>;

  private constructor(program: Program, ports: ReadonlyMap<string, unknown>) {
    this.program = program;
    this.#ports = ports;
  }

  static async start({ sockets, command, env, isWrapped = false }: ActivationOptions): Promise<Activation> {
    const specs = Object.entries(sockets).map(([name, socket]) => `${name}=${socket}`);
    const program = new Program(
      [PYTHON, LAUNCHER, ...(isWrapped ? ['--wrapped'] : []), ...specs, '--', ...command],
      { env: { PATH: process.env['PATH'], ...env } },
    );
    const [line] = await program.waitForOutput(/^\{"ports".*$/mu);
    const report: unknown = JSON.parse(line);
    const isReport = typeof report === 'object' && report !== null && 'ports' in report;
    return new Activation(program, new Map(Object.entries(isReport ? (report.ports ?? {}) : {})));
  }

  port(name: string): number {
    const port = this.#ports.get(name);
    if (typeof port !== 'number') throw new Error(`socket ${name} has no port`);
    return port;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.program[Symbol.asyncDispose]();
  }
}
