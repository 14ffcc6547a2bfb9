import { ErrorReply, createClient } from '@redis/client';
import { errorCode } from '../error-code.ts';

/** The coordinator can't be asked, or does not do what it is asked. Has nothing of addresses, keys or passwords. */
export class CoordinatorError extends Error {
  /** Of the system, like `ECONNREFUSED`, or of the coordinator, like `WRONGPASS`. */
  readonly code: string;

  constructor(code: string) {
    super(`the coordinator: ${code}`);
    this.code = code;
  }
}

/** In which to connect and log in, in milliseconds. */
const OPEN_MS = 5000;

/** A connection that has said nothing for so long, though it was asked, is given up; in milliseconds. */
const SILENCE_MS = 5000;

/** Commands that may be without an answer: some megabytes of memory. */
const MAX_UNANSWERED = 10_000;

/** One connection to the coordinator, from the login to the first thing that goes wrong with it. */
export class ClaimConnection {
  readonly #client: ReturnType<typeof clientOf>;
  readonly #ended = Promise.withResolvers<string>();
  #isOpen = true;
  #unanswered = 0;
  #silence: NodeJS.Timeout | undefined;

  private constructor(url: string) {
    this.#client = clientOf(url);
    this.#client.on('error', (error: unknown) => this.end(codeOf(error)));
    // Whatever waits for an answer has a timer of its own. What connects is out of reach, and should keep no process from ending.
    this.#client.unref();
  }

  /**
   * @param signal gives it up
   * @throws CoordinatorError
   */
  static async open(url: string, signal: AbortSignal): Promise<ClaimConnection> {
    const connection = new ClaimConnection(url);
    const abort = (): void => connection.end('ECANCELED');
    signal.addEventListener('abort', abort);
    const deadline = setTimeout(() => connection.end('ETIMEDOUT'), OPEN_MS);
    try {
      const ended = connection.ended.then((code) => Promise.reject(new CoordinatorError(code)));
      await Promise.race([connection.#connect(), ended]);
      if (signal.aborted) abort();
      return connection;
    } finally {
      clearTimeout(deadline);
      signal.removeEventListener('abort', abort);
    }
  }

  /** Resolves with the code of what went wrong. */
  get ended(): Promise<string> {
    return this.#ended.promise;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** @throws CoordinatorError */
  async ask(args: readonly string[]): Promise<unknown> {
    if (this.#unanswered >= MAX_UNANSWERED) throw new CoordinatorError('EAGAIN');
    this.#unanswered += 1;
    this.#silence ??= setTimeout(() => this.end('ETIMEDOUT'), SILENCE_MS);
    try {
      return await this.#client.sendCommand<unknown>(args);
    } catch (error) {
      throw new CoordinatorError(codeOf(error));
    } finally {
      this.#unanswered -= 1;
      if (this.#unanswered > 0) this.#silence?.refresh();
      else this.#stopListening();
    }
  }

  /** Closes it. What has no answer yet is rejected. */
  end(code: string): void {
    this.#isOpen = false;
    this.#ended.resolve(code);
    this.#stopListening();
    this.#client.destroy();
  }

  async #connect(): Promise<void> {
    try {
      await this.#client.connect();
    } catch (error) {
      const code = codeOf(error);
      this.end(code);
      throw new CoordinatorError(code);
    }
  }

  #stopListening(): void {
    clearTimeout(this.#silence);
    this.#silence = undefined;
  }
}

/** Reconnecting is left to who uses it: the library waits without end for an answer to its login. */
function clientOf(url: string) {
  const client = createClient({
    url,
    name: 'transit-relay',
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: 'disabled',
    // Silence is looked after above, for all commands together: the library would have a timer and a signal for each.
    commandOptions: { timeout: 0 },
    socket: { reconnectStrategy: false, connectTimeout: OPEN_MS },
  });
  // What is ended while it connects has no socket yet that could be closed.
  client.on('connect', () => {
    if (!client.isOpen) client.destroy();
  });
  return client;
}

/** An answer's first word says what is wrong; the rest may quote what was asked. */
function codeOf(error: unknown): string {
  if (error instanceof ErrorReply) return /^[A-Z]{2,20}\b/u.exec(error.message)?.[0] ?? 'ERR';
  if (error instanceof CoordinatorError) return error.code;
  const code = errorCode(error);
  // The library has no code for an end without an error.
  return code === 'unknown' ? 'ECONNRESET' : code;
}
