import { HEALTH_CHECK_KEY } from '../../src/cluster/coordinator-client.ts';
import { RELEASE, RENEW, SCRIPTS, TAKE_OVER } from '../../src/cluster/lease-store.ts';
import type { Clock } from './clock.ts';
import { RENEWAL_BATCH } from './constants.ts';

/** Service times of the coordinator, in milliseconds. It executes one command at a time. */
export interface ServiceTimes {
  /** Acquiring or releasing a lease, or a health check. */
  readonly commandMs: number;
  /** A renewal of 500 leases. Fewer leases take proportionally less, but at least `commandMs`. */
  readonly batchMs: number;
}

/** The other end of a session: the network to one relay. */
interface RedisClient {
  readonly onReply: (bytes: Buffer) => void;
  readonly onReset: () => void;
}

export interface RedisSession {
  /** Executes commands in RESP2, each of them complete. */
  receive(commands: readonly string[]): void;
  close(): void;
}

const COMMAND_KINDS = [
  'log in',
  'load script',
  'health check',
  'acquire',
  'take over',
  'release',
  'renew',
  'look up',
] as const;

export type CommandKind = (typeof COMMAND_KINDS)[number];

type Value = string | null | Error | readonly (string | number)[];

interface Entry {
  value: string;
  untilMs: number;
}

const OOM = new Error("OOM command not allowed when used memory > 'maxmemory'.");

/** Redis with the commands and scripts of the lease code: one server with one queue, which forgets expired keys. */
export class SimulatedRedis {
  readonly service: ServiceTimes;
  readonly #clock: Clock;
  readonly #entries = new Map<string, Entry>();
  readonly #sessions = new Set<Session>();
  readonly #loadedScripts = new Set<string>();
  /** The same value is stored once, however many keys have it. */
  readonly #values = new Map<string, string>();
  readonly #counts = new Map<CommandKind, number>();
  /** No key can be set. */
  isFull = false;
  #isUp = true;
  #freeAtMs = 0;
  #commands = 0;
  #busyMs = 0;
  #renewedKeys = 0;

  constructor(clock: Clock, service: ServiceTimes) {
    this.#clock = clock;
    this.service = service;
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  /** Commands executed since the start. */
  get commands(): number {
    return this.#commands;
  }

  /** Time spent on them, in milliseconds. */
  get busyMs(): number {
    return this.#busyMs;
  }

  /** Keys of all `renew` scripts since the start. */
  get renewedKeys(): number {
    return this.#renewedKeys;
  }

  /** Commands of one kind since the start. */
  countOf(kind: CommandKind): number {
    return this.#counts.get(kind) ?? 0;
  }

  /** Leases that have not expired, of one owner or of all. */
  countLeases(owner: string | null = null): number {
    let count = 0;
    for (const [key, { value, untilMs }] of this.#entries) {
      const isLease = key !== HEALTH_CHECK_KEY && untilMs > this.#clock.nowMs;
      if (isLease && (owner === null || value === owner)) count += 1;
    }
    return count;
  }

  /** The owner of a key; null if it has none. */
  ownerOf(key: string): string | null {
    return this.#entry(key)?.value ?? null;
  }

  /** All keys with a lease that has not expired, and their owners. */
  leases(): ReadonlyMap<string, string> {
    const live = [...this.#entries].filter(
      ([key, { untilMs }]) => key !== HEALTH_CHECK_KEY && untilMs > this.#clock.nowMs,
    );
    return new Map(live.map(([key, { value }]) => [key, value]));
  }

  /** Kills the coordinator. Pending commands are not executed, and all connections are reset. */
  fail({ losesData }: { readonly losesData: boolean }): void {
    this.#isUp = false;
    this.#loadedScripts.clear();
    if (losesData) this.#entries.clear();
    for (const session of this.#sessions) session.reset();
    this.#sessions.clear();
  }

  restart(): void {
    this.#isUp = true;
    this.#freeAtMs = this.#clock.nowMs;
  }

  /** Executes nothing for a time, in milliseconds. */
  stall(ms: number): void {
    this.#freeAtMs = Math.max(this.#freeAtMs, this.#clock.nowMs) + ms;
  }

  accept(client: RedisClient): RedisSession {
    const session = new Session(this, client);
    this.#sessions.add(session);
    return session;
  }

  /** Queues a command of an open session. */
  enqueue(args: readonly string[], session: Session): void {
    const kind = kindOf(args);
    const keys = kind === 'renew' || kind === 'release' ? Number(args[2]) : 0;
    const { commandMs, batchMs } = this.service;
    const serviceMs = Math.max(commandMs, (batchMs * keys) / RENEWAL_BATCH);
    const { nowMs } = this.#clock;
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs) + serviceMs;
    this.#clock.after(this.#freeAtMs - nowMs, () => {
      if (session.isReset) return;
      this.#busyMs += serviceMs;
      this.#commands += 1;
      this.#counts.set(kind, this.countOf(kind) + 1);
      if (kind === 'renew') this.#renewedKeys += keys;
      session.reply(encodeReply(this.#execute(args)));
    });
  }

  forget(session: Session): void {
    this.#sessions.delete(session);
  }

  #execute(args: readonly string[]): Value {
    const [name = '', first = '', second = '', ...rest] = args;
    if (name === 'CLIENT' && first === 'SETNAME') return 'OK';
    if (name === 'GET') return this.ownerOf(first);
    if (name === 'SET' && rest.length === 4 && rest.slice(0, 3).join(' ') === 'NX GET PX')
      return this.#setIfMissing(first, second, Number(rest[3]));
    if (name === 'SCRIPT' && first === 'LOAD') return this.#loadScript(second);
    if (name === 'EVALSHA') return this.#runScript(first, Number(second), rest);
    return new Error(`ERR unknown command '${name}'`);
  }

  #setIfMissing(key: string, value: string, ttlMs: number): Value {
    // A full server rejects the command before it looks at the key.
    if (this.isFull) return OOM;
    const found = this.ownerOf(key);
    if (found === null) this.#set(key, value, ttlMs);
    return found;
  }

  #loadScript(source: string): Value {
    const script = SCRIPTS.find((known) => known.source === source);
    if (script === undefined) return new Error('ERR the simulation does not know this script');
    this.#loadedScripts.add(script.sha1);
    return script.sha1;
  }

  #runScript(sha1: string, keyCount: number, rest: readonly string[]): Value {
    if (!this.#loadedScripts.has(sha1)) return new Error('NOSCRIPT No matching script.');
    const [keys, args] = [rest.slice(0, keyCount), rest.slice(keyCount)];
    const [value = '', second = '', third = ''] = args;
    if (sha1 === TAKE_OVER.sha1) return this.#takeOver(keys[0] ?? '', value, second, Number(third));
    if (sha1 === RENEW.sha1) return this.#renew(keys, value, Number(second));
    for (const key of keys) if (this.ownerOf(key) === value) this.#entries.delete(key);
    return null;
  }

  #takeOver(key: string, value: string, previous: string, ttlMs: number): Value {
    const held = this.ownerOf(key);
    if (held !== null && held !== value && held !== previous) return held;
    if (this.isFull) return OOM;
    this.#set(key, value, ttlMs);
    return null;
  }

  #renew(keys: readonly string[], value: string, ttlMs: number): Value {
    let error = '';
    const others: (string | number)[] = [];
    for (const [index, key] of keys.entries()) {
      const entry = this.#entry(key);
      if (entry?.value === value) entry.untilMs = this.#clock.nowMs + ttlMs;
      else if (entry !== null) others.push(index, entry.value);
      else if (!this.isFull) this.#set(key, value, ttlMs);
      else {
        error = OOM.message;
        others.push(index, '');
      }
    }
    return [error, ...others];
  }

  #entry(key: string): Entry | null {
    const entry = this.#entries.get(key);
    return entry !== undefined && entry.untilMs > this.#clock.nowMs ? entry : null;
  }

  #set(key: string, value: string, ttlMs: number): void {
    const untilMs = this.#clock.nowMs + ttlMs;
    let shared = this.#values.get(value);
    if (shared === undefined) {
      shared = value;
      this.#values.set(value, value);
    }
    const entry = this.#entries.get(key);
    if (entry === undefined) this.#entries.set(key, { value: shared, untilMs });
    else Object.assign(entry, { value: shared, untilMs });
  }
}

/** The server's end of a connection. */
class Session implements RedisSession {
  readonly #redis: SimulatedRedis;
  readonly #client: RedisClient;
  #isReset = false;
  #isOpen = true;

  constructor(redis: SimulatedRedis, client: RedisClient) {
    this.#redis = redis;
    this.#client = client;
  }

  get isReset(): boolean {
    return this.#isReset;
  }

  receive(commands: readonly string[]): void {
    // A server that has restarted does not know the connection.
    if (this.#isReset) this.#client.onReset();
    else for (const command of commands) this.#redis.enqueue(decodeCommand(command), this);
  }

  reply(bytes: Buffer): void {
    if (this.#isOpen) this.#client.onReply(bytes);
  }

  close(): void {
    this.#isOpen = false;
    this.#redis.forget(this);
  }

  reset(): void {
    this.#isReset = true;
    this.#client.onReset();
  }
}

function kindOf([name, first]: readonly string[]): CommandKind {
  if (name === 'SET') return first === HEALTH_CHECK_KEY ? 'health check' : 'acquire';
  if (name === 'GET') return 'look up';
  if (name === 'SCRIPT') return 'load script';
  if (name !== 'EVALSHA') return 'log in';
  if (first === RENEW.sha1) return 'renew';
  return first === RELEASE.sha1 ? 'release' : 'take over';
}

/** The arguments of one command in RESP2, which has ASCII only. */
function decodeCommand(text: string): readonly string[] {
  const args: string[] = [];
  let at = text.indexOf('\r\n') + 2;
  while (at < text.length) {
    const lengthEnd = text.indexOf('\r\n', at);
    const start = lengthEnd + 2;
    const end = start + Number(text.slice(at + 1, lengthEnd));
    args.push(text.slice(start, end));
    at = end + 2;
  }
  return args;
}

function encodeReply(reply: Value): Buffer {
  return Buffer.from(encodeValue(reply), 'latin1');
}

function encodeValue(value: Value | number): string {
  if (value === null) return '$-1\r\n';
  if (typeof value === 'number') return `:${value}\r\n`;
  if (typeof value === 'string') return `$${value.length}\r\n${value}\r\n`;
  if (value instanceof Error) return `-${value.message}\r\n`;
  return `*${value.length}\r\n${value.map((element) => encodeValue(element)).join('')}`;
}
