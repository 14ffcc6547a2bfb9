import { hash, randomBytes } from 'node:crypto';
import type { RelayConfig } from '../config/relay-config.ts';
import { addressPrefix } from '../protocol/ip-address.ts';

const SALT_BYTES = 32;

/** How long a salt is used for new entries, in milliseconds. */
const SALT_ROTATION_MS = 3_600_000;

/**
 * Maximum number of salts. A new address is hashed with each of them, about 1 µs each. While all of them are
 * in use, the newest one is used for longer.
 */
const MAX_SALTS = 8;

/** Idle addresses per generation; two generations are kept. Each address takes about 250 bytes. */
const MAX_IDLE_ADDRESSES = 32_768;

/** A salt that cannot be guessed. It must never leave the memory of this process. */
export function newSalt(random: (bytes: number) => Uint8Array = randomBytes): string {
  return Buffer.from(random(SALT_BYTES)).toString('hex');
}

/** Stands for an address prefix where the prefix itself must not be stored. */
export function hashPrefix(salt: string, prefix: string): string {
  return hash('sha256', salt + prefix, 'base64');
}

/** Open connections, from 1, and new connections per time, which may all come at once. Null: no limit. */
export type AddressLimits = Pick<RelayConfig['limits'], 'connectionsPerAddress' | 'newConnectionsPerAddress'>;

/** The slot of one connection. */
export interface AddressSlot {
  /** Call this when the connection has closed. Further calls do nothing. */
  release(): void;
}

interface AddressEntry {
  /** The hash of the address, and the salt of the hash. */
  key: string;
  salt: string;
  open: number;
  /** New connections that are allowed, as of `refilledAtMs`. */
  allowance: number;
  refilledAtMs: number;
}

/**
 * Limits the connections per address without storing addresses. An entry has a hash with a secret salt that
 * exists in memory only. New entries get a new salt each hour. An old salt is kept as long as there are
 * entries with it: an address with open connections must be recognised, or its limit would restart each hour.
 * When an address connects again, its entry gets the new salt. The kernel knows the addresses of open
 * connections anyway; after the last one has closed, nothing is left to compare an address with.
 *
 * A limit per prefix cannot stop the owner of a network with 2^32 prefixes. Such an owner must not be able to
 * fill the memory or lock out others either. So an address is never rejected because of other addresses.
 * Addresses with open connections are never forgotten; there are at most as many as connections. Of the
 * others, the least recently used are forgotten first: after their allowance has refilled, which loses
 * nothing, or earlier if there are too many. An attacker needs that many prefixes to cause it, and gains no
 * more than by using those prefixes directly.
 */
export class AddressLimit {
  readonly #limits: AddressLimits;
  readonly #clock: () => number;
  readonly #random: (bytes: number) => Uint8Array;
  /** The newest is first. Each entry has one of them. */
  #salts: readonly string[] = [];
  #saltCreatedAtMs = -Infinity;
  /** Addresses with open connections. */
  readonly #connected = new Map<string, AddressEntry>();
  /**
   * Addresses without, whose allowance may not be full: idle since the last rotation, and since before it.
   */
  #idle = new Map<string, AddressEntry>();
  #previousIdle = new Map<string, AddressEntry>();
  #rotatedAtMs = 0;
  #exceeded: keyof AddressLimits | null = null;

  /**
   * @param clock milliseconds of a monotonic clock
   * @param random returns that many cryptographically secure bytes
   */
  constructor(
    limits: AddressLimits,
    clock: () => number,
    random: (bytes: number) => Uint8Array = randomBytes,
  ) {
    this.#limits = limits;
    this.#clock = clock;
    this.#random = random;
  }

  /** The limit that the last rejected attempt exceeded; null before the first one. */
  get exceeded(): keyof AddressLimits | null {
    return this.#exceeded;
  }

  /** For tests: number of entries. */
  get size(): number {
    return this.#connected.size + this.#idle.size + this.#previousIdle.size;
  }

  /**
   * Accepts or rejects a connection. A rejected attempt does not use up anything.
   *
   * @param address a valid IP address; connections without one, such as those of Unix sockets, are not
   *   limited here
   * @returns null if the address has too many connections or too many new ones
   */
  acquire(address: string): AddressSlot | null {
    const now = this.#clock();
    this.#rotateIdle(now);
    this.#rotateSalt(now);
    const { connectionsPerAddress: maxOpen, newConnectionsPerAddress: newRate } = this.#limits;
    const prefix = addressPrefix(address);
    const [salt = ''] = this.#salts;
    const key = hashPrefix(salt, prefix);
    const allowance = newRate?.count ?? 0;
    const found = this.#find(key, prefix) ?? { key, salt, open: 0, allowance, refilledAtMs: now };
    if (maxOpen !== null && found.open >= maxOpen) return this.#reject('connectionsPerAddress');
    if (newRate !== null) {
      const { count, perMs } = newRate;
      const refilled = ((now - found.refilledAtMs) / perMs) * count;
      found.allowance = Math.min(count, found.allowance + refilled);
      found.refilledAtMs = now;
      if (found.allowance < 1) return this.#reject('newConnectionsPerAddress');
      found.allowance -= 1;
    }
    found.open += 1;
    for (const map of [this.#connected, this.#idle, this.#previousIdle]) map.delete(found.key);
    found.key = key;
    found.salt = salt;
    this.#connected.set(key, found);
    return this.#createSlot(found);
  }

  #reject(exceeded: keyof AddressLimits): null {
    this.#exceeded = exceeded;
    return null;
  }

  #createSlot(address: AddressEntry): AddressSlot {
    let isOpen = true;
    return {
      release: () => {
        if (!isOpen) return;
        isOpen = false;
        address.open -= 1;
        if (address.open === 0) this.#markIdle(address);
      },
    };
  }

  #markIdle(address: AddressEntry): void {
    this.#connected.delete(address.key);
    if (this.#limits.newConnectionsPerAddress !== null) this.#idle.set(address.key, address);
  }

  /**
   * Forgets addresses whose allowance is full: every allowance is full after `perMs`. There are two
   * generations, because deleting the oldest entries of a map one by one scans over the deleted ones each
   * time.
   */
  #rotateIdle(now: number): void {
    const { newConnectionsPerAddress: newRate } = this.#limits;
    if (newRate === null) return;
    const { perMs } = newRate;
    const passedMs = now - this.#rotatedAtMs;
    if (passedMs < perMs && this.#idle.size < MAX_IDLE_ADDRESSES) return;
    // After twice that time, all entries are older than `perMs`.
    this.#previousIdle = passedMs < 2 * perMs ? this.#idle : new Map();
    this.#idle = new Map();
    this.#rotatedAtMs = now;
  }

  /** @param key the hash with the newest salt */
  #find(key: string, prefix: string): AddressEntry | undefined {
    let found = this.#entryFor(key);
    for (const salt of this.#salts.slice(1)) found ??= this.#entryFor(hashPrefix(salt, prefix));
    return found;
  }

  #entryFor(key: string): AddressEntry | undefined {
    return this.#connected.get(key) ?? this.#idle.get(key) ?? this.#previousIdle.get(key);
  }

  #rotateSalt(now: number): void {
    if (now - this.#saltCreatedAtMs < SALT_ROTATION_MS) return;
    this.#saltCreatedAtMs = now;
    const used = new Set<string>();
    for (const map of [this.#connected, this.#idle, this.#previousIdle])
      for (const { salt } of map.values()) used.add(salt);
    const kept = this.#salts.filter((salt) => used.has(salt));
    if (kept.length === MAX_SALTS) return;
    this.#salts = [newSalt(this.#random), ...kept];
  }
}

/** Null if addresses are not limited. `clock`: milliseconds of a monotonic clock. */
export function createAddressLimit(limits: AddressLimits, clock: () => number): AddressLimit | null {
  const isUnlimited = limits.connectionsPerAddress === null && limits.newConnectionsPerAddress === null;
  return isUnlimited ? null : new AddressLimit(limits, clock);
}

/** Rejections per sample, and how many of them count as nearly all. */
const SAMPLE_SIZE = 20;
const SHARED_THRESHOLD = 18;

/** RFC 1918, RFC 6598 (carrier-grade NAT), loopback and link-local addresses. */
const PRIVATE_IPV4 =
  /^(?:10|127|192\.168|169\.254|172\.(?:1[6-9]|2\d|3[01])|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\./u;

/** Prefixes of unique local, link-local and loopback addresses, in the form of `addressPrefix`. */
const PRIVATE_IPV6 = /^(?:f[cd][\da-f]{2}|fe[89ab][\da-f]):|^0:0:0:0$/u;

/**
 * Detects that limits per address affect all clients together: nearly all rejections come from one private
 * address. Clients behind NAT look like that (rootless Docker or Podman, Docker Desktop), and clients behind
 * a load balancer that is not a trusted proxy.
 *
 * Stores salted hashes of up to `SAMPLE_SIZE` private addresses.
 */
export class SharedAddressDetector {
  readonly #clock: () => number;
  /** Rejections of the sample by key. */
  readonly #counts = new Map<string, number>();
  #rejections = 0;
  /** An incomplete sample is dropped with it. */
  #salt = newSalt();
  #saltCreatedAtMs: number;

  /** @param clock milliseconds of a monotonic clock */
  constructor(clock: () => number) {
    this.#clock = clock;
    this.#saltCreatedAtMs = clock();
  }

  /** The key of an address for `countRejection`. Null if the address is not private. */
  keyOf(address: string): string | null {
    const prefix = addressPrefix(address);
    if (!(prefix.includes(':') ? PRIVATE_IPV6 : PRIVATE_IPV4).test(prefix)) return null;
    const now = this.#clock();
    if (now - this.#saltCreatedAtMs > SALT_ROTATION_MS) {
      this.#saltCreatedAtMs = now;
      this.#salt = newSalt();
      this.#startSample();
    }
    return hashPrefix(this.#salt, prefix);
  }

  /**
   * Counts a rejection. Returns true if it completes a sample that is nearly all from one private address.
   */
  countRejection(key: string | null): boolean {
    this.#rejections += 1;
    if (key !== null) this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    if (this.#rejections < SAMPLE_SIZE) return false;
    const isShared = Math.max(0, ...this.#counts.values()) >= SHARED_THRESHOLD;
    this.#startSample();
    return isShared;
  }

  #startSample(): void {
    this.#rejections = 0;
    this.#counts.clear();
  }
}
