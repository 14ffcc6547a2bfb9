import { connect, isIP } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { errorCode } from '../process/errors.ts';
import { KEY_PREFIX, SCRIPTS } from './lease-format.ts';
import type { Script } from './lease-format.ts';
import { ErrorReply, ReplyReader, RespError, encodeCommand } from './resp.ts';
import type { Reply } from './resp.ts';

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

/** The coordinator can't be asked, or does not do what it is asked. Has nothing of addresses, keys or passwords. */
export class CoordinatorError extends Error {
  /** Of the system, like `ECONNREFUSED`, or of the coordinator, like `WRONGPASS`. */
  readonly code: string;

  constructor(code: string) {
    super(['the coordinator', code, coordinatorHint(code) ?? []].flat().join(': '));
    this.code = code;
  }
}

const DEFAULT_PORT = 6379;

/** In which to connect and log in, in milliseconds. */
const CONNECT_TIMEOUT_MS = 5000;

/** A connection that has said nothing for so long, though it was asked, is given up; in milliseconds. */
const REPLY_TIMEOUT_MS = 5000;

/** Idle time after which TCP checks that the other end is there, in milliseconds. */
const KEEP_ALIVE_MS = 5000;

/** Commands that may be without an answer: some megabytes of memory. */
const MAX_PENDING_COMMANDS = 10_000;

/** Where the coordinator is, and how to log in. */
export interface CoordinatorAddress {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  /** The arguments of `AUTH`; none: there is no login. */
  readonly credentials: readonly string[];
  readonly database: number;
}

/**
 * Reads `redis://` and `rediss://`.
 *
 * @throws CoordinatorError with the code `EINVAL`; what Node says of a URL has the URL in it
 */
export function parseCoordinatorUrl(text: string): CoordinatorAddress {
  const url = URL.canParse(text) ? new URL(text) : null;
  const database = url === null ? NaN : Number(url.pathname.slice(1));
  if (url === null || !/^rediss?:$/u.test(url.protocol) || url.hostname === '' || !Number.isInteger(database))
    throw new CoordinatorError('EINVAL');
  const [user, password] = [decodeComponent(url.username), decodeComponent(url.password)];
  return {
    host: url.hostname.replace(/^\[(.*)\]$/u, '$1'),
    port: url.port === '' ? DEFAULT_PORT : Number(url.port),
    tls: url.protocol === 'rediss:',
    credentials: user === '' ? [password].filter((one) => one !== '') : [user, password],
    database,
  };
}

function decodeComponent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new CoordinatorError('EINVAL');
  }
}

/** One connection to the coordinator, from the login to the first thing that goes wrong with it. */
export class CoordinatorConnection {
  readonly #socket: Socket;
  readonly #closed = Promise.withResolvers<string>();
  readonly #replies = new ReplyReader();
  /** Commands without an answer, the oldest first: the coordinator answers in order. */
  readonly #pending = new Set<PromiseWithResolvers<Reply>>();
  #isOpen = true;
  #replyTimer: NodeJS.Timeout | undefined;

  private constructor({ host, port, tls }: CoordinatorAddress, ready: () => void) {
    this.#socket = tls
      ? connectTls({ host, port, ...(isIP(host) === 0 ? { servername: host } : {}) }, ready)
      : connect({ host, port }, ready);
    this.#socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS);
    // Whatever waits for an answer has a timer of its own.
    this.#socket.unref();
    this.#socket
      .on('data', (bytes: Buffer) => this.#read(bytes))
      .on('error', (error) => this.close(errorCode(error)))
      .on('close', () => this.close('ECONNRESET'));
  }

  /**
   * @param signal gives it up
   * @throws CoordinatorError
   */
  static async open(address: CoordinatorAddress, signal: AbortSignal): Promise<CoordinatorConnection> {
    const ready = Promise.withResolvers<void>();
    // With TLS, this is when the certificate has been checked; nothing is sent before.
    const connection = new CoordinatorConnection(address, ready.resolve);
    const abort = (): void => connection.close('ECANCELED');
    signal.addEventListener('abort', abort);
    const deadline = setTimeout(() => connection.close('ETIMEDOUT'), CONNECT_TIMEOUT_MS);
    try {
      const ended = connection.closed.then((code) => Promise.reject(new CoordinatorError(code)));
      await Promise.race([ready.promise, ended]);
      await connection.#logIn(address);
      if (signal.aborted) abort();
      return connection;
    } finally {
      clearTimeout(deadline);
      signal.removeEventListener('abort', abort);
    }
  }

  /** Resolves with the code of what went wrong. */
  get closed(): Promise<string> {
    return this.#closed.promise;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** @throws CoordinatorError */
  async request(args: readonly string[]): Promise<Reply> {
    if (this.#pending.size >= MAX_PENDING_COMMANDS) throw new CoordinatorError('EAGAIN');
    this.#replyTimer ??= setTimeout(() => this.close('ETIMEDOUT'), REPLY_TIMEOUT_MS);
    const reply = await this.#send(args);
    if (reply instanceof ErrorReply) throw new CoordinatorError(reply.code);
    return reply;
  }

  /** Closes it. What has no answer yet is rejected. */
  close(code: string): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    // An end without an error has no code.
    const known = code === 'unknown' ? 'ECONNRESET' : code;
    this.#closed.resolve(known);
    clearTimeout(this.#replyTimer);
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
    // All that is asked in one turn of the event loop goes out together.
    if (this.#socket.writableCorked === 0) {
      this.#socket.cork();
      setImmediate(() => this.#socket.uncork());
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
    // Nothing was asked.
    if (oldest === undefined) throw new RespError('EPROTO');
    this.#pending.delete(oldest);
    if (this.#pending.size > 0) {
      this.#replyTimer?.refresh();
    } else {
      clearTimeout(this.#replyTimer);
      this.#replyTimer = undefined;
    }
    oldest.resolve(reply);
  }
}

/** Between two tests of the coordinator, in milliseconds; and while something is wrong with it. */
const HEALTH_CHECK_MS = 5000;
const UNHEALTHY_CHECK_MS = 1000;

/** A test that takes longer finds it slow; one that takes less than half of it finds it well again; in milliseconds. */
const SLOW_MS = 500;

/** The longest wait before it is connected to again, in milliseconds; and the first. */
const MAX_BACKOFF_MS = 5000;
const MIN_BACKOFF_MS = 100;

/** Who was up for so long is connected to again without delay, in milliseconds. */
const STABLE_MS = 10_000;

/** What its tests write: the name of the group. Gone by itself, but not before every relay has come by: they test each `TEST_MS`. */
const HEALTH_CHECK_KEY = `${KEY_PREFIX}test`;
const HEALTH_CHECK_TTL_MS = '10000';

export interface CoordinatorEvents {
  /** It does what it is asked, in time. Told on changes only. */
  readonly onUp: () => void;
  /** It does not. `code` is a system's, or the first word of its answer. */
  readonly onDown: (code: string) => void;
  /** Somebody of another group uses it too. Told each time that this is seen. */
  readonly onSecretMismatch: () => void;
}

/** Valkey or Redis, whatever befalls it: connected to for ever, asked when possible. */
export class CoordinatorClient {
  readonly #address: CoordinatorAddress;
  readonly #clusterId: string;
  readonly #events: CoordinatorEvents;
  readonly #abortController = new AbortController();
  readonly #finished: Promise<void>;
  #connection: CoordinatorConnection | null = null;
  /** What is wrong; null when nothing is. Nothing was told of the start's. */
  #downReason: string | null = 'ENOTCONN';
  #notified: 'up' | 'down' | null = null;
  /** Breaks off the pause before the next test. */
  #checkPause = new AbortController();
  #commands = 0;

  /**
   * @param cluster what relays that belong together have in common
   * @throws CoordinatorError with the code `EINVAL`: no such URL
   */
  constructor(url: string, cluster: string, events: CoordinatorEvents) {
    this.#address = parseCoordinatorUrl(url);
    this.#clusterId = cluster;
    this.#events = events;
    this.#finished = this.#connectLoop();
  }

  /** Whether it was well when it was last asked. */
  get isUp(): boolean {
    return this.#downReason === null;
  }

  /** What is wrong with it, as told by `down`; null when nothing is. */
  get downReason(): string | null {
    return this.#downReason;
  }

  /** Commands sent since the start. */
  get commands(): number {
    return this.#commands;
  }

  /**
   * Asks now, or not at all; answers come in the order of questions, and within some seconds.
   *
   * @throws CoordinatorError
   */
  async request(args: readonly string[]): Promise<Reply> {
    const connection = this.#connection;
    if (connection === null) throw new CoordinatorError('ENOTCONN');
    return await this.#requestOn(connection, args);
  }

  /**
   * Has a script run.
   *
   * @throws CoordinatorError
   */
  runScript(script: Script, keys: readonly string[], args: readonly string[]): Promise<Reply> {
    return this.request(['EVALSHA', script.sha1, String(keys.length), ...keys, ...args]);
  }

  /** Something took too long, or an answer says that something is wrong. It is tested from now on until it is well. */
  markUnhealthy(code: string): void {
    if (this.#connection === null || this.#downReason !== null) return;
    this.#setState(code);
    this.#checkPause.abort();
  }

  /** An answer was not of the kind that was asked for. Ends the connection; the error is to be thrown. */
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
      // One that is full still takes what needs no memory. With any other answer a new connection may lead to
      // another server, has the scripts, and finds out whether it is that bad.
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
      const since = performance.now();
      const code = await this.#connectOnce(signal);
      this.#connection = null;
      if (signal.aborted) break;
      failures = this.#downReason === null && performance.now() - since > STABLE_MS ? 0 : failures + 1;
      this.#setState(code);
      const backoffMs = Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** Math.min(failures, 10));
      // Relays that have lost it at one time do not come back at one time.
      await sleep(backoffMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
    }
  }

  /** Resolves when the connection has ended, with the code of what ended it. */
  async #connectOnce(signal: AbortSignal): Promise<string> {
    try {
      const connection = await CoordinatorConnection.open(this.#address, signal);
      const abort = (): void => connection.close('ECANCELED');
      signal.addEventListener('abort', abort);
      const testing = this.#healthCheckLoop(connection);
      const code = await connection.closed;
      signal.removeEventListener('abort', abort);
      await testing;
      return code;
    } catch (error) {
      return error instanceof CoordinatorError ? error.code : 'unknown';
    }
  }

  async #healthCheckLoop(connection: CoordinatorConnection): Promise<void> {
    void connection.closed.then(() => this.#checkPause.abort());
    try {
      for (const { source, sha1 } of SCRIPTS) {
        const name = await this.#requestOn(connection, ['SCRIPT', 'LOAD', source]);
        if (name !== sha1) throw this.protocolError(connection);
      }
      while (connection.isOpen) {
        this.#checkPause = new AbortController();
        const { signal } = this.#checkPause;
        await this.#healthCheck(connection);
        const pauseMs = this.#downReason === null ? HEALTH_CHECK_MS : UNHEALTHY_CHECK_MS;
        await sleep(pauseMs * (0.8 + Math.random() / 5), undefined, { signal }).catch(() => undefined);
      }
    } catch (error) {
      // The connection has ended, and says why.
      if (!(error instanceof CoordinatorError)) throw error;
    }
  }

  /** Writes, because a replica and one that is full would only answer; and as Redis can since version 7. */
  async #healthCheck(connection: CoordinatorConnection): Promise<void> {
    const start = performance.now();
    try {
      const test = ['SET', HEALTH_CHECK_KEY, this.#clusterId, 'NX', 'GET', 'PX', HEALTH_CHECK_TTL_MS];
      const there = await this.#requestOn(connection, test);
      if (there !== null && typeof there !== 'string') throw this.protocolError(connection);
      if (there !== null && there !== this.#clusterId) this.#events.onSecretMismatch();
    } catch (error) {
      if (!(error instanceof CoordinatorError) || error.code !== 'OOM') throw error;
      this.#connection = connection;
      this.#setState(error.code);
      return;
    }
    this.#connection = connection;
    const tookMs = performance.now() - start;
    if (tookMs > SLOW_MS) this.#setState('ETIMEDOUT');
    else if (this.#downReason !== 'ETIMEDOUT' || tookMs < SLOW_MS / 2) this.#setState(null);
  }

  #setState(fault: string | null): void {
    this.#downReason = fault;
    const state = fault === null ? 'up' : 'down';
    if (state === this.#notified) return;
    this.#notified = state;
    if (fault === null) this.#events.onUp();
    else this.#events.onDown(fault);
  }
}
