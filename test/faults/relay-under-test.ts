import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { parseEndpoint } from '../../src/config/endpoint.ts';
import { TransferBystander, reportFault } from './support/transfer-bystander.ts';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { Program } from '../support/programs.ts';
import { untilIdle, vitalsOf, vitalsReturn } from '../support/vitals.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'main.ts');

/** An endpoint at any free port. */
export const ANY_LOOPBACK_PORT = 'tcp:0:interface=127.0.0.1';

/** Duration of the measurement before the fault, in milliseconds. */
const UNDISTURBED_MS = 300;

/**
 * Time for a relay to end, in milliseconds: its last writes may have to be abandoned, and it finds resets of stalled pairs
 * by two of its sweeps, which are 15 s apart.
 */
const END_TIMEOUT_MS = 60_000;

/** A relay process for tests of faults. */
export class RelayUnderTest implements AsyncDisposable {
  readonly program: Program;
  /** TCP port for clients. */
  readonly port: number;

  private constructor(program: Program, port: number) {
    this.program = program;
    this.port = port;
  }

  /**
   * Starts it and waits until it listens.
   *
   * @param prefix a command that runs the relay, like `prlimit --nofile=64`
   * @param port required if the log, which otherwise contains the port, is redirected
   */
  static async start(
    settings: Readonly<Record<string, string>>,
    { prefix = [], port }: { readonly prefix?: readonly string[]; readonly port?: number } = {},
  ): Promise<RelayUnderTest> {
    const listen = port === undefined ? ANY_LOOPBACK_PORT : `tcp:${port}:interface=127.0.0.1`;
    const env = { PATH: process.env['PATH'], RELAY_LISTEN: listen, RELAY_STATUS_LISTEN: '', ...settings };
    const program = new Program([...prefix, process.execPath, MAIN], { env });
    try {
      if (port !== undefined) {
        await untilReachable(port);
        return new RelayUnderTest(program, port);
      }
      const [, endpointText = ''] = await program.waitForOutput(/"role":"raw","endpoint":"([^"]*)"/u);
      const endpoint = parseEndpoint(endpointText);
      return new RelayUnderTest(program, endpoint.kind === 'tcp' ? endpoint.port : 0);
    } catch (error) {
      await program[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** URL of its status port, for which `RELAY_STATUS_LISTEN` is set. */
  async statusUrl(): Promise<string> {
    const [, port] = await this.program.waitForOutput(/"role":"status","endpoint":"tcp:(\d+)/u);
    return `http://127.0.0.1:${port}`;
  }

  get pid(): number {
    return this.program.pid;
  }

  get log(): string {
    return this.program.stdout;
  }

  /** Number of log lines that match. */
  count(pattern: RegExp): number {
    return this.log.split('\n').filter((line) => pattern.test(line)).length;
  }

  async waitForLog(pattern: RegExp): Promise<void> {
    await this.program.waitForOutput(pattern);
  }

  /** Rejects if the exit code is not 0. */
  async stop(): Promise<void> {
    this.program.kill('SIGTERM');
    await this.program.succeeds(END_TIMEOUT_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.program[Symbol.asyncDispose]();
  }
}

/** Number of tries to connect to a relay that starts, 50 ms apart. */
const MAX_TRIES = 1200;

/** Resolves when a program listens there. */
async function untilReachable(port: number): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    const socket = connect(port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      socket.destroy();
      return;
    } catch (error) {
      if (tries > MAX_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/**
 * Runs `cause` while a bystander's transfers run. Checks that these are unaffected, that the relay has as
 * many file descriptors and about as much memory as before, and that it does not spin. Prints the
 * measurements.
 *
 * @returns bytes of the bystander's pairs, as their records must have them
 */
export async function injectFault(
  context: TestContext,
  relay: RelayUnderTest,
  fault: string,
  cause: () => Promise<unknown>,
): Promise<readonly number[]> {
  await using bystander = await TransferBystander.start(relay.port);
  const before = await bystander.measure(UNDISTURBED_MS);
  const vitalsBefore = vitalsOf(relay.pid);
  const during = await bystander.measureWhile(cause);
  const vitalsAfter = await vitalsReturn(relay.pid, vitalsBefore);
  const bytes = await bystander.finish();
  reportFault(context, fault, { before, during, vitalsBefore, vitalsAfter });
  await untilIdle(relay.pid);
  return bytes;
}

/** A client that has sent its handshake. */
export async function client(port: number, line: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  socket.write(line);
  return socket;
}

/** Two clients that have both received `ok`. */
export async function pair(port: number): Promise<readonly [Socket, Socket]> {
  const token = newToken();
  const one = await client(port, handshake(token, SIDE_A));
  const other = await client(port, handshake(token, SIDE_B));
  await Promise.all([once(one, 'data'), once(other, 'data')]);
  return [one, other];
}

/**
 * Sends `count` bytes through a pair, compares them, and ends the pair. This leaves a `happy` record with
 * that many bytes.
 */
export async function transfer([one, other]: readonly [Socket, Socket], count: number): Promise<void> {
  const sent = randomBytesOf(count, count);
  const received: Buffer[] = [];
  other.on('data', (bytes: Buffer) => received.push(bytes));
  // The relay's FIN to the sender may arrive before the receiver has read everything.
  const closed = once(one.resume(), 'close');
  one.end(sent);
  await once(other, 'end');
  assert.ok(Buffer.concat(received).equals(sent), `${count} received bytes differ`);
  other.end();
  await closed;
}

/** Relays one pair after the other. Each leaves a record with one of these numbers of bytes. */
export async function relayPairs(port: number, sizes: Iterable<number>): Promise<void> {
  for (const size of sizes) await transfer(await pair(port), size);
}

/** Integers from `least` to `most`, both included. */
export function range(least: number, most: number): number[] {
  return Array.from({ length: most - least + 1 }, (_, at) => least + at);
}
