import { randomBytes } from 'node:crypto';
import { addressPrefix, hashPrefix, newSalt } from './address-prefix.ts';

/** How long a salt is used for new entries, in milliseconds. */
const SALT_MS = 3_600_000;

/**
 * Salts that are kept at most. A new address is hashed with each of them, about 1 µs each. While so many are in use, the
 * newest one stays in use for longer.
 */
const MAX_SALTS = 8;

/** So many addresses that have nothing open are remembered, and at most twice as many. Each takes about 250 bytes. */
const MAX_RESTING = 32_768;

export interface AddressLimits {
  /** Connections at once, from 1. Null: as many as there may be. */
  readonly open: number | null;
  /** New connections in a time; as many may come at once. Null: as often as they like. */
  readonly newPer: { readonly count: number; readonly perMs: number } | null;
}

/** The place of one connection. */
export interface AddressSlot {
  /** The connection has ended. Again does nothing. */
  leave(): void;
}

interface Address {
  /** The hash, and the salt that it was made with. */
  key: string;
  salt: string;
  open: number;
  /** New connections that may come; refilled when it is looked at. */
  left: number;
  lookedAtMs: number;
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
  #saltedAtMs = -Infinity;
  /** Those that have something open. */
  readonly #busy = new Map<string, Address>();
  /** Others, which may have used some of their allowance: those that have left since the turn, and before it. */
  #resting = new Map<string, Address>();
  #rested = new Map<string, Address>();
  #turnedAtMs = 0;

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
    return this.#busy.size + this.#resting.size + this.#rested.size;
  }

  /**
   * Lets a connection in, or not. Who is not let in loses nothing by having tried.
   *
   * @param address a valid IP address; what has none, like a Unix socket, is not limited here
   * @returns null when its address has too many, or too many new ones
   */
  enter(address: string): AddressSlot | null {
    const now = this.#clock();
    this.#forgetRested(now);
    this.#changeSalt(now);
    const { open, newPer } = this.#limits;
    const prefix = addressPrefix(address);
    const [salt = ''] = this.#salts;
    const key = hashPrefix(salt, prefix);
    const found = this.#find(key, prefix) ?? this.#newAddress(key, salt, now);
    if (open !== null && found.open >= open) return null;
    if (newPer !== null) {
      this.#refill(found, now);
      if (found.left < 1) return null;
      found.left -= 1;
    }
    found.open += 1;
    for (const map of [this.#busy, this.#resting, this.#rested]) map.delete(found.key);
    found.key = key;
    found.salt = salt;
    this.#busy.set(key, found);
    return this.#slotOf(found);
  }

  #slotOf(address: Address): AddressSlot {
    let isIn = true;
    return {
      leave: () => {
        if (!isIn) return;
        isIn = false;
        address.open -= 1;
        if (address.open === 0) this.#rest(address);
      },
    };
  }

  #rest(address: Address): void {
    this.#busy.delete(address.key);
    if (this.#limits.newPer !== null) this.#resting.set(address.key, address);
  }

  /**
   * Forgets whose allowance is full by now: all are filled after the same time, whatever was left. They go in two lots,
   * as a map whose oldest entries are deleted one by one walks over those that are gone each time.
   */
  #forgetRested(now: number): void {
    const { newPer } = this.#limits;
    if (newPer === null) return;
    const { perMs } = newPer;
    const passedMs = now - this.#turnedAtMs;
    if (passedMs < perMs && this.#resting.size < MAX_RESTING) return;
    // After twice the time nobody has come for that long, who had last come before.
    this.#rested = passedMs < 2 * perMs ? this.#resting : new Map();
    this.#resting = new Map();
    this.#turnedAtMs = now;
  }

  /** @param key the hash with the newest salt */
  #find(key: string, prefix: string): Address | undefined {
    const found = this.#entryOf(key);
    if (found !== undefined) return found;
    for (const salt of this.#salts.slice(1)) {
      const older = this.#entryOf(hashPrefix(salt, prefix));
      if (older !== undefined) return older;
    }
    return undefined;
  }

  #entryOf(key: string): Address | undefined {
    return this.#busy.get(key) ?? this.#resting.get(key) ?? this.#rested.get(key);
  }

  #newAddress(key: string, salt: string, now: number): Address {
    return { key, salt, open: 0, left: this.#limits.newPer?.count ?? 0, lookedAtMs: now };
  }

  #refill(address: Address, now: number): void {
    const { newPer } = this.#limits;
    if (newPer === null) return;
    const refilled = ((now - address.lookedAtMs) / newPer.perMs) * newPer.count;
    address.left = Math.min(newPer.count, address.left + refilled);
    address.lookedAtMs = now;
  }

  #changeSalt(now: number): void {
    if (now - this.#saltedAtMs < SALT_MS) return;
    this.#saltedAtMs = now;
    const used = new Set<string>();
    for (const map of [this.#busy, this.#resting, this.#rested])
      for (const { salt } of map.values()) used.add(salt);
    const kept = this.#salts.filter((salt) => used.has(salt));
    if (kept.length === MAX_SALTS) return;
    this.#salts = [newSalt(this.#random), ...kept];
  }
}
