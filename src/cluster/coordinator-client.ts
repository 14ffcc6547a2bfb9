import type { Duplex } from 'node:stream';
import type { CoordinatorAddress } from '../config/cluster-config.ts';
import { errorCode } from '../process/errors.ts';
import { ErrorReply, ReplyReader, RespError, encodeCommand } from './resp.ts';
import type { Reply } from './resp.ts';
import { NODE_RUNTIME, clearTimer, sleep } from './runtime.ts';
import type { Runtime, Timer } from './runtime.ts';

/** Codes of OpenSSL for a certificate of an unknown authority, or one that is signed by itself. */
const UNTRUSTED_CERTIFICATE_CODES: ReadonlySet<string> = new Set([
  'CERT_UNTRUSTED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** What an operator can do about an error with this code; undefined if the code says it all. */
export function coordinatorHint(code: string): string | undefined {
  return UNTRUSTED_CERTIFICATE_CODES.has(code)
    ? 'the certificate of the coordinator is signed by an unknown authority; set NODE_EXTRA_CA_CERTS to the path of a PEM file with the certificate of that authority'
    : undefined;
}

/** The coordinator is unreachable, or a command failed. Contains no addresses, keys or passwords. */
export class CoordinatorError extends Error {
  /** A system error like `ECONNREFUSED`, or the coordinator's, like `WRONGPASS`. */
  readonly code: string;

  constructor(code: string) {
    super(['the coordinator', code, coordinatorHint(code) ?? []].flat().join(': '));
    this.code = code;
  }
}

/** Prefix of all keys, for operators and access rules of the coordinator. */
export const KEY_PREFIX = 'transit-relay:';

/** A script that the coordinator runs atomically, and its name there. */
export interface Script {
  readonly source: string;
  readonly sha1: string;
}

/** Time limit for connecting and logging in, in milliseconds. */
const CONNECT_TIMEOUT_MS = 5000;

/** A connection is closed after this time without a reply while commands are pending, in milliseconds. */
const REPLY_TIMEOUT_MS = 5000;

/** Limit for commands without a reply: some megabytes of memory. */
const MAX_PENDING_COMMANDS = 10_000;

/** One connection to the coordinator, from the login to its first error. */
class CoordinatorConnection {
  readonly #runtime: Runtime;
  readonly #socket: Duplex;
  readonly #closed = Promise.withResolvers<string>();
  readonly #replies = new ReplyReader();
  /** Commands without a reply, the oldest first: the coordinator replies in order. */
  readonly #pending = new Set<PromiseWithResolvers<Reply>>();
  #isOpen = true;
  #replyTimer: Timer | undefined;

  private constructor(
    runtime: Runtime,
    address: CoordinatorAddress,
    signal: AbortSignal,
    onOpen: () => void,
  ) {
    this.#runtime = runtime;
    this.#socket = runtime.connect(address, onOpen);
    this.#socket
      .on('data', (bytes: Buffer) => this.#read(bytes))
      .on('error', (error) => this.close(errorCode(error)))
      .on('close', () => this.close('ECONNRESET'));
    const abort = (): void => this.close('ECANCELED');
    signal.addEventListener('abort', abort);
    void this.closed.then(() => signal.removeEventListener('abort', abort));
  }

  /**
   * @param signal closes the connection
   * @throws CoordinatorError
   */
  static async open(
    runtime: Runtime,
    address: CoordinatorAddress,
    signal: AbortSignal,
  ): Promise<CoordinatorConnection> {
    const opened = Promise.withResolvers<void>();
    const connection = new CoordinatorConnection(runtime, address, signal, opened.resolve);
    const deadline = runtime.setTimeout(() => connection.close('ETIMEDOUT'), CONNECT_TIMEOUT_MS);
    try {
      const ended = connection.closed.then((code) => Promise.reject(new CoordinatorError(code)));
      await Promise.race([opened.promise, ended]);
      await connection.#logIn(address);
      return connection;
    } finally {
      clearTimer(deadline);
    }
  }

  /** Resolves with the code of the error. */
  get closed(): Promise<string> {
    return this.#closed.promise;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** @throws CoordinatorError */
  async request(args: readonly string[]): Promise<Reply> {
    if (this.#pending.size >= MAX_PENDING_COMMANDS) throw new CoordinatorError('EAGAIN');
    this.#replyTimer ??= this.#runtime.setTimeout(() => this.close('ETIMEDOUT'), REPLY_TIMEOUT_MS);
    const reply = await this.#send(args);
    if (reply instanceof ErrorReply) throw new CoordinatorError(reply.code);
    return reply;
  }

  /** Closes the connection. Pending commands are rejected. */
  close(code: string): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    // A close without an error has no code.
    const known = code === 'unknown' ? 'ECONNRESET' : code;
    this.#closed.resolve(known);
    clearTimer(this.#replyTimer);
    this.#socket.destroy();
    for (const { reject } of this.#pending) reject(new CoordinatorError(known));
    this.#pending.clear();
  }

  async #logIn({ credentials, database }: CoordinatorAddress): Promise<void> {
    const commands = [
      ...(credentials.length === 0 ? [] : [['AUTH', ...credentials]]),
      ...(database === 0 ? [] : [['SELECT', String(database)]]),
      ['CLIENT', 'SETNAME', 'transit-relay'],
    ];
    for (const reply of await Promise.all(commands.map((command) => this.#send(command)))) {
      if (!(reply instanceof ErrorReply)) continue;
      this.close(reply.code);
      throw new CoordinatorError(reply.code);
    }
  }

  #send(args: readonly string[]): Promise<Reply> {
    if (!this.#isOpen) return Promise.reject(new CoordinatorError('ECONNRESET'));
    const answer = Promise.withResolvers<Reply>();
    this.#pending.add(answer);
    // Commands of one event loop iteration are sent together.
    if (this.#socket.writableCorked === 0) {
      this.#socket.cork();
      this.#runtime.setImmediate(() => this.#socket.uncork());
    }
    this.#socket.write(encodeCommand(args));
    return answer.promise;
  }

  #read(bytes: Buffer): void {
    try {
      for (const reply of this.#replies.read(bytes)) this.#onReply(reply);
    } catch (error) {
      if (!(error instanceof RespError)) throw error;
      this.close(error.code);
    }
  }

  #onReply(reply: Reply): void {
    const [oldest] = this.#pending;
    // No command is pending.
    if (oldest === undefined) throw new RespError('EPROTO');
    this.#pending.delete(oldest);
    if (this.#pending.size > 0) {
      this.#replyTimer?.refresh();
    } else {
      clearTimer(this.#replyTimer);
      this.#replyTimer = undefined;
    }
    oldest.resolve(reply);
  }
}

/** Interval of health checks, in milliseconds; and while the coordinator is down. */
const HEALTH_CHECK_MS = 5000;
const UNHEALTHY_CHECK_MS = 1000;

/** A health check above this time makes the coordinator slow; one below half of it ends that. In milliseconds. */
const SLOW_MS = 500;

/** The longest delay before a reconnect, in milliseconds; and the first. */
const MAX_BACKOFF_MS = 5000;
const MIN_BACKOFF_MS = 100;

/** A coordinator that was up for this time is reconnected to with the first delay, in milliseconds. */
const STABLE_MS = 10_000;

/** Health checks write the cluster's id here. It expires after every relay has seen it: they check each `HEALTH_CHECK_MS`. */
export const HEALTH_CHECK_KEY = `${KEY_PREFIX}test`;
const HEALTH_CHECK_TTL_MS = '10000';

export interface CoordinatorEvents {
  /** The coordinator executes commands in time. Called on changes only. */
  readonly onUp: () => void;
  /** It does not. Called on changes only; `code` is a system error, or the first word of its reply, like `WRONGPASS`. */
  readonly onDown: (code: string) => void;
  /** A relay with another secret uses it too, so clients of the two are never paired. Called each time this is detected. */
  readonly onSecretMismatch: () => void;
}

/** Valkey or Redis, with reconnects for as long as the relay runs. Commands fail while it is not connected. */
export class CoordinatorClient {
  readonly #address: CoordinatorAddress;
  readonly #clusterId: string;
  readonly #scripts: readonly Script[];
  readonly #events: CoordinatorEvents;
  readonly #runtime: Runtime;
  readonly #abortController = new AbortController();
  readonly #finished: Promise<void>;
  #connection: CoordinatorConnection | null = null;
  /** The reason that it is down; null if it is up. The first one was never reported. */
  #downReason: string | null = 'ENOTCONN';
  #notified: 'up' | 'down' | null = null;
  /** Ends the pause before the next health check. */
  #checkPause = new AbortController();
  #commands = 0;

  /**
   * @param clusterId the same for all relays of a cluster
   * @param scripts loaded into each new connection's server, for `runScript`
   */
  constructor(
    address: CoordinatorAddress,
    clusterId: string,
    scripts: readonly Script[],
    events: CoordinatorEvents,
    runtime = NODE_RUNTIME,
  ) {
    this.#address = address;
    this.#clusterId = clusterId;
    this.#scripts = scripts;
    this.#events = events;
    this.#runtime = runtime;
    this.#finished = this.#connectLoop();
  }

  /** Whether the last command or health check succeeded in time. */
  get isUp(): boolean {
    return this.#downReason === null;
  }

  /** Commands sent since the start. */
  get commands(): number {
    return this.#commands;
  }

  /**
   * Sends a command now, or fails. Replies come in the order of commands, within some seconds.
   *
   * @throws CoordinatorError
   */
  async request(args: readonly string[]): Promise<Reply> {
    const connection = this.#connection;
    if (connection === null) throw new CoordinatorError('ENOTCONN');
    return await this.#requestOn(connection, args);
  }

  /**
   * Runs a script.
   *
   * @throws CoordinatorError
   */
  runScript(script: Script, keys: readonly string[], args: readonly string[]): Promise<Reply> {
    return this.request(['EVALSHA', script.sha1, String(keys.length), ...keys, ...args]);
  }

  /** A command took too long, or its reply reports a problem. Health checks run from now on until it is up. */
  markUnhealthy(code: string): void {
    if (this.#connection === null || this.#downReason !== null) return;
    this.#setState(code);
    this.#checkPause.abort();
  }

  /** A reply had the wrong type. Closes the connection; the caller throws the error. */
  protocolError(connection = this.#connection): CoordinatorError {
    connection?.close('EPROTO');
    return new CoordinatorError('EPROTO');
  }

  async close(): Promise<void> {
    this.#abortController.abort();
    await this.#finished;
    this.#downReason = 'ENOTCONN';
  }

  async #requestOn(connection: CoordinatorConnection, args: readonly string[]): Promise<Reply> {
    this.#commands += 1;
    try {
      return await connection.request(args);
    } catch (error) {
      const code = error instanceof CoordinatorError ? error.code : 'unknown';
      // A full coordinator still executes commands that need no memory. After any other error a new connection may
      // reach another server; it loads the scripts, and shows whether the problem persists.
      if (code === 'OOM') this.markUnhealthy(code);
      else if (code === 'EAGAIN') this.#commands -= 1;
      else connection.close(code);
      throw error;
    }
  }

  async #connectLoop(): Promise<void> {
    const { signal } = this.#abortController;
    let failures = 0;
    while (!signal.aborted) {
      const since = this.#runtime.now();
      const code = await this.#connectOnce(signal);
      this.#connection = null;
      if (signal.aborted) break;
      failures = this.#downReason === null && this.#runtime.now() - since > STABLE_MS ? 0 : failures + 1;
      this.#setState(code);
      const backoffMs = Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** Math.min(failures, 10));
      // Jitter: relays that lost it at the same time do not reconnect at the same time.
      await sleep(this.#runtime, backoffMs * (0.5 + this.#runtime.random() / 2), signal);
    }
  }

  /** Resolves when the connection has closed, with the code of the error. */
  async #connectOnce(signal: AbortSignal): Promise<string> {
    try {
      const connection = await CoordinatorConnection.open(this.#runtime, this.#address, signal);
      const healthChecks = this.#healthCheckLoop(connection);
      const code = await connection.closed;
      await healthChecks;
      return code;
    } catch (error) {
      return error instanceof CoordinatorError ? error.code : 'unknown';
    }
  }

  async #healthCheckLoop(connection: CoordinatorConnection): Promise<void> {
    void connection.closed.then(() => this.#checkPause.abort());
    try {
      for (const { source, sha1 } of this.#scripts) {
        const name = await this.#requestOn(connection, ['SCRIPT', 'LOAD', source]);
        if (name !== sha1) throw this.protocolError(connection);
      }
      while (connection.isOpen) {
        this.#checkPause = new AbortController();
        const { signal } = this.#checkPause;
        await this.#healthCheck(connection);
        const pauseMs = this.#downReason === null ? HEALTH_CHECK_MS : UNHEALTHY_CHECK_MS;
        await sleep(this.#runtime, pauseMs * (0.8 + this.#runtime.random() / 5), signal);
      }
    } catch (error) {
      // The connection has closed; `closed` reports why.
      if (!(error instanceof CoordinatorError)) throw error;
    }
  }

  /** Writes, because a replica or a full server still answers reads. `SET` with `NX` and `GET` needs Redis 7. */
  async #healthCheck(connection: CoordinatorConnection): Promise<void> {
    const start = this.#runtime.now();
    try {
      const command = ['SET', HEALTH_CHECK_KEY, this.#clusterId, 'NX', 'GET', 'PX', HEALTH_CHECK_TTL_MS];
      const found = await this.#requestOn(connection, command);
      if (found !== null && typeof found !== 'string') throw this.protocolError(connection);
      if (found !== null && found !== this.#clusterId) this.#events.onSecretMismatch();
    } catch (error) {
      if (!(error instanceof CoordinatorError) || error.code !== 'OOM') throw error;
      this.#connection = connection;
      this.#setState(error.code);
      return;
    }
    this.#connection = connection;
    const tookMs = this.#runtime.now() - start;
    if (tookMs > SLOW_MS) this.#setState('ETIMEDOUT');
    else if (this.#downReason !== 'ETIMEDOUT' || tookMs < SLOW_MS / 2) this.#setState(null);
  }

  #setState(downReason: string | null): void {
    this.#downReason = downReason;
    const state = downReason === null ? 'up' : 'down';
    if (state === this.#notified) return;
    this.#notified = state;
    if (downReason === null) this.#events.onUp();
    else this.#events.onDown(downReason);
  }
}
