import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { createClient } from '@redis/client';
import { freePort } from './listening.ts';
import { Program, findProgram } from './programs.ts';
import { scratch } from './scratch.ts';

/** Reason to skip tests that need Redis; false if it is installed. */
export function withoutRedis(): string | false {
  return findProgram('redis-server') === null ? 'no "redis-server": apt-get install redis-server' : false;
}

/** A Redis server of one test, on loopback and without persistence. */
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
   * Starts a server until the end of the test.
   *
   * @param settings additional command-line options
   */
  static async start(context: TestContext, settings: readonly string[] = []): Promise<RedisServer> {
    const [directory, port] = [await scratch(context), await freePort()];
    const program = await run(context, directory, port, settings);
    return new RedisServer(context, directory, port, settings, program);
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Kills the server, as if its host failed. All data is lost. */
  async kill(): Promise<void> {
    this.#program.kill('SIGCONT');
    this.#program.kill('SIGKILL');
    await this.#program[Symbol.asyncDispose]();
  }

  /** Restarts the server after `kill`: empty, on the same port. */
  async restart(): Promise<void> {
    this.#program = await run(this.#context, this.#directory, this.port, this.#settings);
  }

  /** Suspends the server: connections stay open and the kernel accepts new ones, but there are no replies. */
  freeze(): void {
    this.#program.kill('SIGSTOP');
  }

  /** Resumes the server after `freeze`. */
  thaw(): void {
    this.#program.kill('SIGCONT');
  }

  /** Connects a client for the test's own queries; by default without a password. */
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
    // No snapshots, which would also fork a process.
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

/** A TCP proxy in front of a Redis server that can delay bytes or cut connections. */
export class RedisProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #port: number;
  #delayMs = 0;
  #isCut = false;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.#port = port;
  }

  static async to(context: TestContext, targetPort: number): Promise<RedisProxy> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('a TCP server without a port');
    const proxy = new RedisProxy(server, address.port);
    server.on('connection', (socket) => proxy.#forward(socket, connect(targetPort, '127.0.0.1')));
    context.after(() => proxy.#close());
    return proxy;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.#port}`;
  }

  /** Delay of bytes that are received from now on, in each direction. */
  set delayMs(delayMs: number) {
    this.#delayMs = delayMs;
  }

  /** Closes all connections, and new ones at once, until `repair`. */
  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  repair(): void {
    this.#isCut = false;
  }

  #forward(near: Socket, far: Socket): void {
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on('error', () => undefined);
      from.on('data', (bytes) => this.#send(to, bytes));
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
    if (this.#isCut) near.destroy();
  }

  #send(to: Socket, bytes: Buffer): void {
    if (this.#delayMs === 0) to.write(bytes);
    else setTimeout(() => to.write(bytes), this.#delayMs);
  }

  #close(): void {
    this.cut();
    this.#server.close();
  }
}
