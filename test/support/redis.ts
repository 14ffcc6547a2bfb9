import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { createClient } from '@redis/client';
import { freePort } from './listening.ts';
import { Program, findProgram } from './programs.ts';
import { scratch } from './scratch.ts';

/** Why there is no coordinator, for a test to be skipped; false where there is one. */
export function withoutRedis(): string | false {
  return findProgram('redis-server') === null
    ? 'no "redis-server": install it, by apt-get install redis-server'
    : false;
}

/** A Redis of the test's own, on loopback, that keeps nothing on disk. */
export class RedisServer {
  readonly port: number;
  readonly #context: TestContext;
  readonly #directory: string;
  readonly #settings: readonly string[];
  #program: Program;

  private constructor(
    context: TestContext,
    directory: string,
    port: number,
    settings: readonly string[],
    program: Program,
  ) {
    this.#context = context;
    this.#directory = directory;
    this.port = port;
    this.#settings = settings;
    this.#program = program;
  }

  /**
   * Starts one for as long as the test lasts.
   *
   * @param settings further options of its command line
   */
  static async start(context: TestContext, settings: readonly string[] = []): Promise<RedisServer> {
    const [directory, port] = [await scratch(context), await freePort()];
    const program = await run(context, directory, port, settings);
    return new RedisServer(context, directory, port, settings, program);
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** As when its machine fails: it says nothing any more, and forgets everything. */
  async kill(): Promise<void> {
    this.#program.kill('SIGCONT');
    this.#program.kill('SIGKILL');
    await this.#program[Symbol.asyncDispose]();
  }

  /** After `kill`; empty, on the same port. */
  async restart(): Promise<void> {
    this.#program = await run(this.#context, this.#directory, this.port, this.#settings);
  }

  /** Its connections stay, and new ones are accepted, but nothing is answered. */
  freeze(): void {
    this.#program.kill('SIGSTOP');
  }

  thaw(): void {
    this.#program.kill('SIGCONT');
  }

  /** Somebody who asks it, beside whom the test is about; by default without a password. */
  async admin(url = this.url) {
    const client = createClient({ url, socket: { reconnectStrategy: false } });
    client.on('error', () => undefined);
    await client.connect();
    this.#context.after(() => client.destroy());
    return client;
  }
}

async function run(
  context: TestContext,
  directory: string,
  port: number,
  settings: readonly string[],
): Promise<Program> {
  const program = new Program([
    findProgram('redis-server') ?? '',
    '--port',
    String(port),
    '--bind',
    '127.0.0.1',
    // Nothing is kept, and nothing forks to keep it.
    '--save',
    '',
    '--dir',
    directory,
    ...settings,
  ]);
  context.after(async () => {
    program.kill('SIGCONT');
    await program[Symbol.asyncDispose]();
  });
  await program.waitForOutput(/Ready to accept connections/u);
  return program;
}

/** A way to a server that can be made slow, or be cut. */
export class Detour {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #port: number;
  #delayMs = 0;
  #isCut = false;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.#port = port;
  }

  static async to(context: TestContext, targetPort: number): Promise<Detour> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('a TCP server without a port');
    const detour = new Detour(server, address.port);
    server.on('connection', (socket) => detour.#join(socket, connect(targetPort, '127.0.0.1')));
    context.after(() => detour.#close());
    return detour;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.#port}`;
  }

  /** What is said from now on arrives so much later, each way. */
  set delayMs(delayMs: number) {
    this.#delayMs = delayMs;
  }

  /** Ends all connections, and all that come, until it is whole again. */
  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  repair(): void {
    this.#isCut = false;
  }

  #join(near: Socket, far: Socket): void {
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on('error', () => undefined);
      from.on('data', (bytes) => this.#pass(to, bytes));
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
    if (this.#isCut) near.destroy();
  }

  #pass(to: Socket, bytes: Buffer): void {
    if (this.#delayMs === 0) to.write(bytes);
    else setTimeout(() => to.write(bytes), this.#delayMs);
  }

  #close(): void {
    this.cut();
    this.#server.close();
  }
}
