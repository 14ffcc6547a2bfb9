import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { parseEndpoint } from '../../src/config/endpoint.ts';
import { Bystander, reportFault } from '../support/bystander.ts';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { Program } from '../support/programs.ts';
import { coresUsed, vitalsOf, vitalsReturn } from '../support/vitals.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'main.ts');

const ANY_LOOPBACK_PORT = 'tcp:0:interface=127.0.0.1';

/** How long a bystander is watched before something goes wrong, in milliseconds. */
const UNDISTURBED_MS = 700;

/** A process that does nothing uses no core; one that spins uses a whole one. */
const MOST_IDLE_CORES = 0.2;

/** How long a relay may take to end, in milliseconds: its last writes may have to be given up. */
const END_TIMEOUT_MS = 20_000;

/** The relay as a process to which something happens. */
export class StrickenRelay implements AsyncDisposable {
  readonly program: Program;
  /** Where it takes clients by TCP. */
  readonly port: number;

  private constructor(program: Program, port: number) {
    this.program = program;
    this.port = port;
  }

  /**
   * Starts it and waits until it listens.
   *
   * @param prefix a command that runs the relay, like `prlimit --nofile=64`
   * @param port given where the log, which tells the port else, does not come here
   */
  static async start(
    settings: Readonly<Record<string, string>>,
    { prefix = [], port }: { readonly prefix?: readonly string[]; readonly port?: number } = {},
  ): Promise<StrickenRelay> {
    const listen = port === undefined ? ANY_LOOPBACK_PORT : `tcp:${port}:interface=127.0.0.1`;
    const env = { PATH: process.env['PATH'], RELAY_LISTEN: listen, RELAY_STATUS_LISTEN: '', ...settings };
    const program = new Program([...prefix, process.execPath, MAIN], { env });
    try {
      if (port !== undefined) {
        await reachable(port);
        return new StrickenRelay(program, port);
      }
      const [, notifications = ''] = await program.waitForOutput(/"role":"raw","endpoint":"([^"]*)"/u);
      const endpoint = parseEndpoint(notifications);
      return new StrickenRelay(program, endpoint.kind === 'tcp' ? endpoint.port : 0);
    } catch (error) {
      await program[Symbol.asyncDispose]();
      throw error;
    }
  }

  get pid(): number {
    return this.program.pid;
  }

  get log(): string {
    return this.program.stdout;
  }

  /** How many lines of the log say this. */
  count(pattern: RegExp): number {
    return this.log.split('\n').filter((line) => pattern.test(line)).length;
  }

  async says(pattern: RegExp): Promise<void> {
    await this.program.waitForOutput(pattern);
  }

  /** Rejects unless it ends with exit code 0. */
  async stop(): Promise<void> {
    this.program.kill('SIGTERM');
    await this.program.succeeds(END_TIMEOUT_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.program[Symbol.asyncDispose]();
  }
}

/** Resolves when somebody listens there. */
async function reachable(port: number): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    const socket = connect(port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      socket.destroy();
      return;
    } catch (error) {
      if (tries > 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/**
 * Lets `cause` happen to the relay while a bystander's transfers run, and sees that these were not harmed, that the relay
 * then holds as many descriptors as before and no more memory to speak of, and that it does not spin. Prints the figures.
 *
 * @returns bytes of the bystander's pairs, as their records have to have them
 */
export async function strike(
  context: TestContext,
  relay: StrickenRelay,
  fault: string,
  cause: () => Promise<unknown>,
): Promise<readonly number[]> {
  await using bystander = await Bystander.start(relay.port);
  const before = await bystander.measure(UNDISTURBED_MS);
  const vitalsBefore = vitalsOf(relay.pid);
  const during = await bystander.measureWhile(cause);
  const vitalsAfter = await vitalsReturn(relay.pid, vitalsBefore);
  const bytes = await bystander.finish();
  reportFault(context, fault, { before, during, vitalsBefore, vitalsAfter });
  const cores = await coresUsed(relay.pid, 1000);
  assert.ok(cores < MOST_IDLE_CORES, `the relay uses ${cores} cores for nothing`);
  return bytes;
}

/** A client that has sent its line. */
export async function client(port: number, line: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  socket.write(line);
  return socket;
}

/** Two clients that have both heard `ok`. */
export async function pair(port: number): Promise<readonly [Socket, Socket]> {
  const token = newToken();
  const one = await client(port, handshake(token, SIDE_A));
  const other = await client(port, handshake(token, SIDE_B));
  await Promise.all([once(one, 'data'), once(other, 'data')]);
  return [one, other];
}

/** Sends `count` bytes through a pair, compares them, and ends the pair. A `happy` record of so many bytes is under way then. */
export async function transfer([one, other]: readonly [Socket, Socket], count: number): Promise<void> {
  const sent = randomBytesOf(count, count);
  const got: Buffer[] = [];
  other.on('data', (bytes: Buffer) => got.push(bytes));
  // The relay's FIN to the one may come before the other has read all.
  const closed = once(one.resume(), 'close');
  one.end(sent);
  await once(other, 'end');
  assert.ok(Buffer.concat(got).equals(sent), `${count} bytes came wrong`);
  other.end();
  await closed;
}

/** Pairs one after the other that leave records of these numbers of bytes. */
export async function visits(port: number, sizes: Iterable<number>): Promise<void> {
  for (const size of sizes) await transfer(await pair(port), size);
}

/** Whole numbers, `least` and `most` included. */
export function range(least: number, most: number): number[] {
  return Array.from({ length: most - least + 1 }, (_, at) => least + at);
}
