import { join } from 'node:path';
import { Program } from '../../support/programs.ts';
import type { Ends } from './client-flood.ts';
import { WITH_FD_LIMIT } from './monitored-relay.ts';
import type { MonitoredRelay } from './monitored-relay.ts';

const ATTACKER = join(import.meta.dirname, 'attacker.ts');

/** Much longer than any attack, in milliseconds. */
const TIMEOUT_MS = 240_000;

/** Runs `attacker.ts` in a separate process, so that it does not slow this process down. */
export class Attack implements AsyncDisposable {
  readonly #program: Program;

  /** @param count connections, pairs or seconds, depending on the attack */
  constructor(name: string, { rawPort, websocketPort }: MonitoredRelay, count: number) {
    const args = [rawPort, websocketPort, count].map(String);
    const command = [...WITH_FD_LIMIT, process.execPath, ATTACKER, name, ...args];
    this.#program = new Program(command, { env: { PATH: process.env['PATH'] } });
  }

  /** Counts by name, once all connections have been made or have failed. */
  ready(): Promise<Ends> {
    return this.#report('ready');
  }

  /** Resolves when all connections have ended, with counts by how they ended. */
  async ended(): Promise<Ends> {
    const ends = await this.#report('ended');
    await this.#program.succeeds(TIMEOUT_MS);
    return ends;
  }

  /** Makes the attacker close its remaining connections. */
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
    if (!isNumbers(numbers)) throw new Error(`unexpected output of the attacker: ${line}`);
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
