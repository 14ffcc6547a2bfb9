import { join } from 'node:path';
import { createClient } from '@redis/client';
import { Program, findProgram } from '../../support/programs.ts';

const PORT = 6379;

/** In which whoever waits for an answer of a slow coordinator may get it, in milliseconds. */
const AWAKE_MS = 50;

/** A Redis in a network of its own, that keeps nothing on disk. The test asks it by a file, whatever is cut. */
export class NetworkCoordinator implements AsyncDisposable {
  readonly url: string;
  readonly #prefix: readonly string[];
  readonly #directory: string;
  #program: Program | null = null;
  #stopTimer: NodeJS.Timeout | undefined;

  /**
   * @param address where relays find it
   * @param prefix a command that runs programs in its network
   */
  constructor(address: string, prefix: readonly string[], directory: string) {
    this.url = `redis://${address}:${PORT}`;
    this.#prefix = prefix;
    this.#directory = directory;
  }

  get #socketPath(): string {
    return join(this.#directory, 'coordinator.sock');
  }

  /** The first time, and again after `kill`: empty, at the same address. */
  async start(): Promise<void> {
    const listen = ['--port', String(PORT), '--protected-mode', 'no', '--unixsocket', this.#socketPath];
    const nothing = ['--save', '', '--dir', this.#directory];
    this.#program = new Program([
      ...this.#prefix,
      findProgram('redis-server') ?? 'redis-server',
      ...listen,
      ...nothing,
    ]);
    await this.#program.waitForOutput(/Ready to accept connections/u);
  }

  async kill(): Promise<void> {
    this.recover();
    this.#program?.kill('SIGKILL');
    await this.#program?.[Symbol.asyncDispose]();
  }

  /** From now on an answer takes up to so long, in milliseconds. */
  slowDown(forMs: number): void {
    this.recover();
    const stop = (): void => {
      this.#program?.kill('SIGSTOP');
      this.#stopTimer = setTimeout(() => {
        this.#program?.kill('SIGCONT');
        this.#stopTimer = setTimeout(stop, AWAKE_MS);
      }, forMs);
    };
    stop();
  }

  recover(): void {
    clearTimeout(this.#stopTimer);
    this.#program?.kill('SIGCONT');
  }

  /** The keys of tokens, without what relays try it with. */
  async keys(): Promise<readonly string[]> {
    const keys = await this.#query((admin) => admin.keys('*'));
    return keys.filter((key) => key !== 'transit-relay:test');
  }

  /** As when a claim's lease ends. */
  async flush(): Promise<void> {
    await this.#query((admin) => admin.flushAll());
  }

  /** Has something under a key that no relay has put there. */
  async set(key: string, value: string): Promise<void> {
    await this.#query((admin) => admin.set(key, value));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #query<T>(question: (admin: ReturnType<typeof adminOf>) => Promise<T>): Promise<T> {
    const admin = adminOf(this.#socketPath);
    admin.on('error', () => undefined);
    await admin.connect();
    try {
      return await question(admin);
    } finally {
      admin.destroy();
    }
  }
}

function adminOf(path: string) {
  return createClient({ socket: { path, reconnectStrategy: false } });
}
