import { join } from 'node:path';
import { Program } from '../../support/programs.ts';
import { WITH_FD_LIMIT } from './monitored-relay.ts';
import type { MeasuredRelay } from './turns.ts';

const ATTACKER = join(import.meta.dirname, 'mass-attacker.ts');

/** Much longer than the preparation of any attack, in milliseconds. */
const TIMEOUT_MS = 240_000;

/** Runs `mass-attacker.ts` in a separate process. */
export class MassAttack implements AsyncDisposable {
  readonly #program: Program;

  private constructor(program: Program) {
    this.#program = program;
  }

  /** Resolves when the attack is prepared. */
  static async prepare(name: string, { relay }: MeasuredRelay, count: number): Promise<MassAttack> {
    const ports = [relay.port('raw'), relay.port('websocket')];
    const command = [...WITH_FD_LIMIT, process.execPath, ATTACKER, name, ...[...ports, count].map(String)];
    const program = new Program(command, { env: { PATH: process.env['PATH'] } });
    await program.waitForOutput(/^ready$/mu, TIMEOUT_MS);
    return new MassAttack(program);
  }

  /** Resolves when the attack has started. It continues. */
  async begin(): Promise<void> {
    this.#program.write('begin\n');
    await this.#program.waitForOutput(/^begun$/mu);
  }

  /** Kills the attacker, which closes all its connections at once. */
  kill(): void {
    this.#program.kill('SIGKILL');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program[Symbol.asyncDispose]();
  }
}
