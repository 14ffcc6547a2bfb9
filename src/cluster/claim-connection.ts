import { connect, isIP } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { errorCode } from '../error-code.ts';
import { ErrorReply, ReplyReader, RespError, encodeCommand } from './resp.ts';
import type { Reply } from './resp.ts';

/** Codes of OpenSSL for a certificate of an unknown authority, or one that is signed by itself. */
const UNTRUSTED: ReadonlySet<string> = new Set([
  'CERT_UNTRUSTED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** What an operator can do about an error with this code; undefined if the code says it all. */
export function coordinatorHint(code: string): string | undefined {
  return UNTRUSTED.has(code)
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
const OPEN_MS = 5000;

/** A connection that has said nothing for so long, though it was asked, is given up; in milliseconds. */
const SILENCE_MS = 5000;

/** Idle time after which TCP checks that the other end is there, in milliseconds. */
const KEEP_ALIVE_MS = 5000;

/** Commands that may be without an answer: some megabytes of memory. */
const MAX_UNANSWERED = 10_000;

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
  const [user, password] = [decoded(url.username), decoded(url.password)];
  return {
    host: url.hostname.replace(/^\[(.*)\]$/u, '$1'),
    port: url.port === '' ? DEFAULT_PORT : Number(url.port),
    tls: url.protocol === 'rediss:',
    credentials: user === '' ? [password].filter((one) => one !== '') : [user, password],
    database,
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new CoordinatorError('EINVAL');
  }
}

/** One connection to the coordinator, from the login to the first thing that goes wrong with it. */
export class ClaimConnection {
  readonly #socket: Socket;
  readonly #ended = Promise.withResolvers<string>();
  readonly #replies = new ReplyReader();
  /** Commands without an answer, the oldest first: the coordinator answers in order. */
  readonly #unanswered = new Set<PromiseWithResolvers<Reply>>();
  #isOpen = true;
  #silence: NodeJS.Timeout | undefined;

  private constructor({ host, port, tls }: CoordinatorAddress, ready: () => void) {
    this.#socket = tls
      ? connectTls({ host, port, ...(isIP(host) === 0 ? { servername: host } : {}) }, ready)
      : connect({ host, port }, ready);
    this.#socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS);
    // Whatever waits for an answer has a timer of its own.
    this.#socket.unref();
    this.#socket
      .on('data', (bytes: Buffer) => this.#read(bytes))
      .on('error', (error) => this.end(errorCode(error)))
      .on('close', () => this.end('ECONNRESET'));
  }

  /**
   * @param signal gives it up
   * @throws CoordinatorError
   */
  static async open(address: CoordinatorAddress, signal: AbortSignal): Promise<ClaimConnection> {
    const ready = Promise.withResolvers<void>();
    // With TLS, this is when the certificate has been checked; nothing is sent before.
    const connection = new ClaimConnection(address, ready.resolve);
    const abort = (): void => connection.end('ECANCELED');
    signal.addEventListener('abort', abort);
    const deadline = setTimeout(() => connection.end('ETIMEDOUT'), OPEN_MS);
    try {
      const ended = connection.ended.then((code) => Promise.reject(new CoordinatorError(code)));
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
  get ended(): Promise<string> {
    return this.#ended.promise;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** @throws CoordinatorError */
  async ask(args: readonly string[]): Promise<Reply> {
    if (this.#unanswered.size >= MAX_UNANSWERED) throw new CoordinatorError('EAGAIN');
    this.#silence ??= setTimeout(() => this.end('ETIMEDOUT'), SILENCE_MS);
    const reply = await this.#send(args);
    if (reply instanceof ErrorReply) throw new CoordinatorError(reply.code);
    return reply;
  }

  /** Closes it. What has no answer yet is rejected. */
  end(code: string): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    // An end without an error has no code.
    const known = code === 'unknown' ? 'ECONNRESET' : code;
    this.#ended.resolve(known);
    clearTimeout(this.#silence);
    this.#socket.destroy();
    for (const { reject } of this.#unanswered) reject(new CoordinatorError(known));
    this.#unanswered.clear();
  }

  async #logIn({ credentials, database }: CoordinatorAddress): Promise<void> {
    const commands = [
      ...(credentials.length === 0 ? [] : [['AUTH', ...credentials]]),
      ...(database === 0 ? [] : [['SELECT', String(database)]]),
      ['CLIENT', 'SETNAME', 'transit-relay'],
    ];
    for (const reply of await Promise.all(commands.map((command) => this.#send(command)))) {
      if (!(reply instanceof ErrorReply)) continue;
      this.end(reply.code);
      throw new CoordinatorError(reply.code);
    }
  }

  #send(args: readonly string[]): Promise<Reply> {
    if (!this.#isOpen) return Promise.reject(new CoordinatorError('ECONNRESET'));
    const answer = Promise.withResolvers<Reply>();
    this.#unanswered.add(answer);
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
      for (const reply of this.#replies.read(bytes)) this.#answer(reply);
    } catch (error) {
      if (!(error instanceof RespError)) throw error;
      this.end(error.code);
    }
  }

  #answer(reply: Reply): void {
    const [oldest] = this.#unanswered;
    // Nothing was asked.
    if (oldest === undefined) throw new RespError('EPROTO');
    this.#unanswered.delete(oldest);
    if (this.#unanswered.size > 0) {
      this.#silence?.refresh();
    } else {
      clearTimeout(this.#silence);
      this.#silence = undefined;
    }
    oldest.resolve(reply);
  }
}
