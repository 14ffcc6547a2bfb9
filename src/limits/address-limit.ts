import { randomBytes } from 'node:crypto';
import type { RelayConfig } from '../config/relay-config.ts';
import { addressPrefix } from '../protocol/ip-address.ts';
import { hashPrefix, newSalt } from './address-hash.ts';

/** How long a salt is used for new entries, in milliseconds. */
const SALT_ROTATION_MS = 3_600_000;

/**
 * Salts that are kept at most. A new address is hashed with each of them, about 1 µs each. While so many are in use, the
 * newest one stays in use for longer.
 */
const MAX_SALTS = 8;

/** So many addresses that have nothing open are remembered, and at most twice as many. Each takes about 250 bytes. */
const MAX_IDLE_ADDRESSES = 32_768;

export interface AddressLimits {
  /** Connections at once, from 1. Null: as many as there may be. */
  readonly maxOpen: number | null;
  /** New connections in a time; as many may come at once. Null: as often as they like. */
  readonly newConnectionRate: { readonly count: number; readonly perMs: number } | null;
}

/** The place of one connection. */
export interface AddressSlot {
  /** The connection has ended. Again does nothing. */
  release(): void;
}

interface AddressEntry {
  /** The hash, and the salt that it was made with. */
  key: string;
  salt: string;
  open: number;
  /** New connections that may come; refilled when it is looked at. */
  allowance: number;
  refilledAtMs: number;
}

/**
 * Limits what comes from one address, without keeping any: what is kept is a hash with a secret salt that is in memory
 * alone. Each hour there is a new salt for new entries. An old one stays for as long as there is an entry that was made with
 * it: an address has to be recognised while it has connections open, or its limit would start over each hour. When
 * an address connects again, its entry gets the new salt. The kernel knows the addresses of open connections in any case;
 * after the last one has closed, nothing is left that an address could be compared with.
 *
 * Who has a network of 2^32 prefixes is met by no limit for each of them, and must not be able to fill the memory or
 * to shut out others either. So nobody is refused for what others do. Addresses that have something open are never
 * forgotten, as there are no more of them than connections. Of the others, who has been away for longest is forgotten
 * first: when its allowance is full again, which loses nothing, or sooner when there are too many. Who could bring that
 * about needs as many prefixes, and gains no more by it than by using them.
 */
export class AddressLimit {
  readonly #limits: AddressLimits;
  readonly #clock: () => number;
  readonly #random: (bytes: number) => Uint8Array;
  /** The newest is first. Entries may have been made with any of them. */
  #salts: readonly string[] = [];
  #saltCreatedAtMs = -Infinity;
  /** Those that have something open. */
  readonly #connected = new Map<string, AddressEntry>();
  /** Others, which may have used some of their allowance: those that have left since the turn, and before it. */
  #idle = new Map<string, AddressEntry>();
  #previousIdle = new Map<string, AddressEntry>();
  #rotatedAtMs = 0;

  /**
   * @param clock milliseconds of a clock that never jumps
   * @param random that many bytes which nobody can guess
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

  /** Addresses that are remembered, as hashes. */
  get size(): number {
    return this.#connected.size + this.#idle.size + this.#previousIdle.size;
  }

  /**
   * Lets a connection in, or not. Who is not let in loses nothing by having tried.
   *
   * @param address a valid IP address; what has none, like a Unix socket, is not limited here
   * @returns null when its address has too many, or too many new ones
   */
  acquire(address: string): AddressSlot | null {
    const now = this.#clock();
    this.#rotateIdle(now);
    this.#rotateSalt(now);
    const { maxOpen: open, newConnectionRate: newPer } = this.#limits;
    const prefix = addressPrefix(address);
    const [salt = ''] = this.#salts;
    const key = hashPrefix(salt, prefix);
    const found = this.#find(key, prefix) ?? this.#createEntry(key, salt, now);
    if (open !== null && found.open >= open) return null;
    if (newPer !== null) {
      this.#refill(found, now);
      if (found.allowance < 1) return null;
      found.allowance -= 1;
    }
    found.open += 1;
    for (const map of [this.#connected, this.#idle, this.#previousIdle]) map.delete(found.key);
    found.key = key;
    found.salt = salt;
    this.#connected.set(key, found);
    return this.#createSlot(found);
  }

  #createSlot(address: AddressEntry): AddressSlot {
    let isIn = true;
    return {
      release: () => {
        if (!isIn) return;
        isIn = false;
        address.open -= 1;
        if (address.open === 0) this.#markIdle(address);
      },
    };
  }

  #markIdle(address: AddressEntry): void {
    this.#connected.delete(address.key);
    if (this.#limits.newConnectionRate !== null) this.#idle.set(address.key, address);
  }

  /**
   * Forgets whose allowance is full by now: all are filled after the same time, whatever was left. They go in two lots,
   * as a map whose oldest entries are deleted one by one walks over those that are gone each time.
   */
  #rotateIdle(now: number): void {
    const { newConnectionRate: newPer } = this.#limits;
    if (newPer === null) return;
    const { perMs } = newPer;
    const passedMs = now - this.#rotatedAtMs;
    if (passedMs < perMs && this.#idle.size < MAX_IDLE_ADDRESSES) return;
    // After twice the time nobody has come for that long, who had last come before.
    this.#previousIdle = passedMs < 2 * perMs ? this.#idle : new Map();
    this.#idle = new Map();
    this.#rotatedAtMs = now;
  }

  /** @param key the hash with the newest salt */
  #find(key: string, prefix: string): AddressEntry | undefined {
    const found = this.#entryFor(key);
    if (found !== undefined) return found;
    for (const salt of this.#salts.slice(1)) {
      const older = this.#entryFor(hashPrefix(salt, prefix));
      if (older !== undefined) return older;
    }
    return undefined;
  }

  #entryFor(key: string): AddressEntry | undefined {
    return this.#connected.get(key) ?? this.#idle.get(key) ?? this.#previousIdle.get(key);
  }

  #createEntry(key: string, salt: string, now: number): AddressEntry {
    return { key, salt, open: 0, allowance: this.#limits.newConnectionRate?.count ?? 0, refilledAtMs: now };
  }

  #refill(address: AddressEntry, now: number): void {
    const { newConnectionRate: newPer } = this.#limits;
    if (newPer === null) return;
    const refilled = ((now - address.refilledAtMs) / newPer.perMs) * newPer.count;
    address.allowance = Math.min(newPer.count, address.allowance + refilled);
    address.refilledAtMs = now;
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
export function createAddressLimit(limits: RelayConfig['limits'], clock: () => number): AddressLimit | null {
  const { connectionsPerAddress: maxOpen, newConnectionsPerAddress: newConnectionRate } = limits;
  if (maxOpen === null && newConnectionRate === null) return null;
  return new AddressLimit({ maxOpen, newConnectionRate }, clock);
}
