import { setTimeout as sleep } from 'node:timers/promises';
import { KEY_PREFIX } from './claim-key.ts';
import { ClaimConnection, CoordinatorError, parseCoordinatorUrl } from './claim-connection.ts';
import type { CoordinatorAddress } from './claim-connection.ts';
import { SCRIPTS } from './claim-scripts.ts';
import type { Script } from './claim-scripts.ts';
import type { Reply } from './resp.ts';

/** Between two tests of the coordinator, in milliseconds; and while something is wrong with it. */
const TEST_MS = 5000;
const TEST_AGAIN_MS = 1000;

/** A test that takes longer finds it slow; one that takes less than half of it finds it well again; in milliseconds. */
const SLOW_MS = 500;

/** The longest wait before it is connected to again, in milliseconds; and the first. */
const MAX_BACKOFF_MS = 5000;
const MIN_BACKOFF_MS = 100;

/** Who was up for so long is connected to again without delay, in milliseconds. */
const STEADY_MS = 10_000;

/** What its tests write: the name of the group. Gone by itself, but not before every relay has come by: they test each `TEST_MS`. */
const TEST_KEY = `${KEY_PREFIX}test`;
const TEST_LEASE_MS = '10000';

export interface CoordinatorEvents {
  /** It does what it is asked, in time. Told on changes only. */
  readonly up: () => void;
  /** It does not. `code` is a system's, or the first word of its answer. */
  readonly down: (code: string) => void;
  /** Somebody of another group uses it too. Told each time that this is seen. */
  readonly otherGroup: () => void;
}

/** Valkey or Redis, whatever befalls it: connected to for ever, asked when possible. */
export class Coordinator {
  readonly #address: CoordinatorAddress;
  readonly #group: string;
  readonly #events: CoordinatorEvents;
  readonly #closing = new AbortController();
  readonly #finished: Promise<void>;
  #connection: ClaimConnection | null = null;
  /** What is wrong; null when nothing is. Nothing was told of the start's. */
  #fault: string | null = 'ENOTCONN';
  #told: 'up' | 'down' | null = null;
  /** Breaks off the pause before the next test. */
  #pause = new AbortController();
  #commands = 0;

  /**
   * @param group what relays that belong together have in common
   * @throws CoordinatorError with the code `EINVAL`: no such URL
   */
  constructor(url: string, group: string, events: CoordinatorEvents) {
    this.#address = parseCoordinatorUrl(url);
    this.#group = group;
    this.#events = events;
    this.#finished = this.#stayConnected();
  }

  /** Whether it was well when it was last asked. */
  get isUp(): boolean {
    return this.#fault === null;
  }

  /** What is wrong with it, as told by `down`; null when nothing is. */
  get fault(): string | null {
    return this.#fault;
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
  async ask(args: readonly string[]): Promise<Reply> {
    const connection = this.#connection;
    if (connection === null) throw new CoordinatorError('ENOTCONN');
    return await this.#askBy(connection, args);
  }

  /**
   * Has a script run.
   *
   * @throws CoordinatorError
   */
  run(script: Script, keys: readonly string[], args: readonly string[]): Promise<Reply> {
    return this.ask(['EVALSHA', script.sha1, String(keys.length), ...keys, ...args]);
  }

  /** Something took too long, or an answer says that something is wrong. It is tested from now on until it is well. */
  suspect(code: string): void {
    if (this.#connection === null || this.#fault !== null) return;
    this.#becomes(code);
    this.#pause.abort();
  }

  /** An answer was not of the kind that was asked for. Ends the connection; the error is to be thrown. */
  unexpected(connection = this.#connection): CoordinatorError {
    connection?.end('EPROTO');
    return new CoordinatorError('EPROTO');
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#finished;
    this.#fault = 'ENOTCONN';
  }

  async #askBy(connection: ClaimConnection, args: readonly string[]): Promise<Reply> {
    this.#commands += 1;
    try {
      return await connection.ask(args);
    } catch (error) {
      const code = error instanceof CoordinatorError ? error.code : 'unknown';
      // One that is full still takes what needs no memory. With any other answer a new connection may lead to
      // another server, has the scripts, and finds out whether it is that bad.
      if (code === 'OOM') this.suspect(code);
      else if (code === 'EAGAIN') this.#commands -= 1;
      else connection.end(code);
      throw error;
    }
  }

  async #stayConnected(): Promise<void> {
    const { signal } = this.#closing;
    let failures = 0;
    while (!signal.aborted) {
      const since = performance.now();
      const code = await this.#connectOnce(signal);
      this.#connection = null;
      if (signal.aborted) break;
      failures = this.#fault === null && performance.now() - since > STEADY_MS ? 0 : failures + 1;
      this.#becomes(code);
      const backoffMs = Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** Math.min(failures, 10));
      // Relays that have lost it at one time do not come back at one time.
      await sleep(backoffMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
    }
  }

  /** Resolves when the connection has ended, with the code of what ended it. */
  async #connectOnce(signal: AbortSignal): Promise<string> {
    try {
      const connection = await ClaimConnection.open(this.#address, signal);
      const abort = (): void => connection.end('ECANCELED');
      signal.addEventListener('abort', abort);
      const testing = this.#keepTesting(connection);
      const code = await connection.ended;
      signal.removeEventListener('abort', abort);
      await testing;
      return code;
    } catch (error) {
      return error instanceof CoordinatorError ? error.code : 'unknown';
    }
  }

  async #keepTesting(connection: ClaimConnection): Promise<void> {
    void connection.ended.then(() => this.#pause.abort());
    try {
      for (const { source, sha1 } of SCRIPTS) {
        const name = await this.#askBy(connection, ['SCRIPT', 'LOAD', source]);
        if (name !== sha1) throw this.unexpected(connection);
      }
      while (connection.isOpen) {
        this.#pause = new AbortController();
        const { signal } = this.#pause;
        await this.#test(connection);
        const pauseMs = this.#fault === null ? TEST_MS : TEST_AGAIN_MS;
        await sleep(pauseMs * (0.8 + Math.random() / 5), undefined, { signal }).catch(() => undefined);
      }
    } catch (error) {
      // The connection has ended, and says why.
      if (!(error instanceof CoordinatorError)) throw error;
    }
  }

  /** Writes, because a replica and one that is full would only answer; and as Redis can since version 7. */
  async #test(connection: ClaimConnection): Promise<void> {
    const start = performance.now();
    try {
      const test = ['SET', TEST_KEY, this.#group, 'NX', 'GET', 'PX', TEST_LEASE_MS];
      const there = await this.#askBy(connection, test);
      if (there !== null && typeof there !== 'string') throw this.unexpected(connection);
      if (there !== null && there !== this.#group) this.#events.otherGroup();
    } catch (error) {
      if (!(error instanceof CoordinatorError) || error.code !== 'OOM') throw error;
      this.#connection = connection;
      this.#becomes(error.code);
      return;
    }
    this.#connection = connection;
    const tookMs = performance.now() - start;
    if (tookMs > SLOW_MS) this.#becomes('ETIMEDOUT');
    else if (this.#fault !== 'ETIMEDOUT' || tookMs < SLOW_MS / 2) this.#becomes(null);
  }

  #becomes(fault: string | null): void {
    this.#fault = fault;
    const state = fault === null ? 'up' : 'down';
    if (state === this.#told) return;
    this.#told = state;
    if (fault === null) this.#events.up();
    else this.#events.down(fault);
  }
}
