import { Duplex } from 'node:stream';
import type { Clock } from './clock.ts';
import type { RedisSession, SimulatedRedis } from './simulated-redis.ts';

/** The network between one relay and the coordinator. */
export class NetworkPath {
  readonly #clock: Clock;
  readonly #redis: SimulatedRedis;
  readonly #oneWayMs: () => number;
  readonly #connections = new Set<SimulatedConnection>();
  /** Packets that are sent again when the network is back; null: packets arrive. */
  #lost: (() => void)[] | null = null;
  #longestAnswerMs = 0;

  constructor(clock: Clock, redis: SimulatedRedis, oneWayMs: () => number) {
    this.#clock = clock;
    this.#redis = redis;
    this.#oneWayMs = oneWayMs;
  }

  connect(onOpen: () => void): Duplex {
    const connection = new SimulatedConnection(this.#clock, this.#redis, this, onOpen);
    this.#connections.add(connection);
    connection.once('close', () => this.#connections.delete(connection));
    return connection;
  }

  /** No packet arrives any more, and neither end notices. */
  silence(): void {
    this.#lost ??= [];
  }

  /** Packets arrive again. Both ends send the lost ones again, as TCP does. */
  heal(): void {
    const lost = this.#lost ?? [];
    this.#lost = null;
    for (const send of lost) send();
  }

  /** Resets all connections, as a firewall does. */
  reset(): void {
    for (const connection of this.#connections) connection.reset('ECONNRESET');
  }

  /** Time of the next packet's arrival; null if it is lost. `resend` is called when the network is back. */
  arrivalMs(resend: () => void): number | null {
    if (this.#lost === null) return this.#clock.nowMs + this.#oneWayMs();
    this.#lost.push(resend);
    return null;
  }

  onAnswer(tookMs: number): void {
    this.#longestAnswerMs = Math.max(this.#longestAnswerMs, tookMs);
  }

  /** The longest time from a command to its reply since the last call, in milliseconds. */
  takeLongestAnswerMs(): number {
    const longest = this.#longestAnswerMs;
    this.#longestAnswerMs = 0;
    return longest;
  }
}

/** One direction of a connection: packets arrive in order. */
class Direction {
  readonly #clock: Clock;
  readonly #path: NetworkPath;
  #lastArrivalMs = 0;

  constructor(clock: Clock, path: NetworkPath) {
    this.#clock = clock;
    this.#path = path;
  }

  send(arrive: () => void): void {
    const atMs = this.#path.arrivalMs(() => this.send(arrive));
    if (atMs === null) return;
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, atMs);
    this.#clock.after(this.#lastArrivalMs - this.#clock.nowMs, arrive);
  }
}

/** The relay's end of a connection to the coordinator. */
class SimulatedConnection extends Duplex {
  readonly #clock: Clock;
  readonly #path: NetworkPath;
  readonly #outbound: Direction;
  readonly #inbound: Direction;
  #session: RedisSession | null = null;
  /** Times at which commands were sent whose replies are missing, the oldest first. */
  readonly #sentAtMs: number[] = [];

  constructor(clock: Clock, redis: SimulatedRedis, path: NetworkPath, onOpen: () => void) {
    super({ decodeStrings: false });
    this.#clock = clock;
    this.#path = path;
    this.#outbound = new Direction(clock, path);
    this.#inbound = new Direction(clock, path);
    this.#outbound.send(() => this.#handshake(redis, onOpen));
  }

  reset(code: string): void {
    this.destroy(Object.assign(new Error(code), { code }));
  }

  override _read(): void {
    // Replies are pushed as they arrive.
  }

  override _write(text: string, _encoding: BufferEncoding, done: () => void): void {
    this.#send([text]);
    done();
  }

  override _writev(chunks: readonly { readonly chunk: string }[], done: () => void): void {
    this.#send(chunks.map(({ chunk }) => chunk));
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    // Commands that were sent before are still executed.
    this.#outbound.send(() => this.#session?.close());
    done(error);
  }

  #handshake(redis: SimulatedRedis, onOpen: () => void): void {
    if (!redis.isUp) {
      this.#inbound.send(() => this.reset('ECONNREFUSED'));
      return;
    }
    this.#session = redis.accept({
      onReply: (bytes) => this.#inbound.send(() => this.#onReply(bytes)),
      onReset: () => this.#inbound.send(() => this.reset('ECONNRESET')),
    });
    this.#inbound.send(() => {
      if (!this.destroyed) onOpen();
    });
  }

  #send(commands: readonly string[]): void {
    for (const _ of commands) this.#sentAtMs.push(this.#clock.nowMs);
    this.#outbound.send(() => this.#session?.receive(commands));
  }

  #onReply(bytes: Buffer): void {
    if (this.destroyed) return;
    this.#path.onAnswer(this.#clock.nowMs - (this.#sentAtMs.shift() ?? Number.NaN));
    this.push(bytes);
  }
}
