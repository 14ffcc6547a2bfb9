import { join } from 'node:path';
import { createClient } from '@redis/client';
import { Program, findProgram } from '../../../support/programs.ts';

const PORT = 6379;

/** How long a slow coordinator replies to commands before it stops again, in milliseconds. */
const AWAKE_MS = 50;

/**
 * A Redis server in its own network namespace, without persistence. The test uses a Unix socket, which works
 * even if the network is cut.
 */
export class NetworkCoordinator implements AsyncDisposable {
  readonly url: string;
  readonly #prefix: readonly string[];
  readonly #directory: string;
  #program: Program | null = null;
  #stopTimer: NodeJS.Timeout | undefined;

  /**
   * @param address IP address for the relays
   * @param prefix a command that runs programs in its network namespace
   */
  constructor(address: string, prefix: readonly string[], directory: string) {
    this.url = `redis://${address}:${PORT}`;
    this.#prefix = prefix;
    this.#directory = directory;
  }

  get #socketPath(): string {
    return join(this.#directory, 'coordinator.sock');
  }

  /** Starts the server without any data. After `kill`, it starts again at the same address. */
  async start(): Promise<void> {
    const listen = ['--port', String(PORT), '--protected-mode', 'no', '--unixsocket', this.#socketPath];
    const noPersistence = ['--save', '', '--dir', this.#directory];
    this.#program = new Program([
      ...this.#prefix,
      findProgram('redis-server') ?? 'redis-server',
      ...listen,
      ...noPersistence,
    ]);
    await this.#program.waitForOutput(/Ready to accept connections/u);
  }

  async kill(): Promise<void> {
    this.recover();
    this.#program?.kill('SIGKILL');
    await this.#program?.[Symbol.asyncDispose]();
  }

  /** From now on, replies take up to `forMs` milliseconds. */
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

  /** The keys of tokens, without the key that relays use to test the coordinator. */
  async keys(): Promise<readonly string[]> {
    const keys = await this.#query((admin) => admin.keys('*'));
    return keys.filter((key) => key !== 'transit-relay:test');
  }

  /** Deletes all keys, as if all leases had expired. */
  async flush(): Promise<void> {
    await this.#query((admin) => admin.flushAll());
  }

  /** Sets a key to a value that no relay has written. */
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
