import { join } from 'node:path';
import { Program } from '../../support/programs.ts';
import type { Ends } from './crowd.ts';
import { WITH_OPEN_FILES } from './held-relay.ts';
import type { HeldRelay } from './held-relay.ts';

const ATTACKER = join(import.meta.dirname, 'attacker.ts');

/** Far above what any attack takes, in milliseconds. */
const TIMEOUT_MS = 90_000;

/** `attacker.ts` at work, in a process of its own: what it does costs this process nothing. */
export class Attack implements AsyncDisposable {
  readonly #program: Program;

  /** @param count connections, pairs or seconds, as the attack has it */
  constructor(name: string, { rawPort, websocketPort }: HeldRelay, count: number) {
    const args = [rawPort, websocketPort, count].map(String);
    const command = [...WITH_OPEN_FILES, process.execPath, ATTACKER, name, ...args];
    this.#program = new Program(command, { env: { PATH: process.env['PATH'] } });
  }

  /** What it says when all its connections have been made, or have failed: numbers by name. */
  ready(): Promise<Ends> {
    return this.#report('ready');
  }

  /** How its connections ended, once all of them have. */
  async ended(): Promise<Ends> {
    const ends = await this.#report('ended');
    await this.#program.succeeds(TIMEOUT_MS);
    return ends;
  }

  /** Has it end the connections that it still has. */
  leave(): Promise<Ends> {
    this.#program.endInput();
    return this.ended();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program[Symbol.asyncDispose]();
  }

  async #report(name: string): Promise<Ends> {
    const [line] = await this.#program.waitForOutput(
      new RegExp(`^\\{"${name}":.*$(?=\\n)`, 'mu'),
      TIMEOUT_MS,
    );
    const report: unknown = JSON.parse(line);
    const numbers: unknown = typeof report === 'object' && report !== null ? Reflect.get(report, name) : null;
    if (!isNumbers(numbers)) throw new Error(`the attacker said ${line}`);
    return numbers;
  }
}

function isNumbers(value: unknown): value is Ends {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).every((number) => typeof number === 'number')
  );
}
