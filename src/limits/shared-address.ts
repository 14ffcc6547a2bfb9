import { addressPrefix } from '../protocol/ip-address.ts';
import { hashPrefix, newSalt } from './address-hash.ts';

/** Rejections that are judged together, and how many of them are nearly all. */
const SAMPLE_SIZE = 20;
const SHARED_THRESHOLD = 18;

/** After this there is a new salt, and a sample that is not full is dropped, in milliseconds. */
const SALT_ROTATION_MS = 3_600_000;

/** RFC 1918, RFC 6598 (carrier-grade NAT), loopback and link-local addresses. */
const PRIVATE_IPV4 =
  /^(?:10|127|192\.168|169\.254|172\.(?:1[6-9]|2\d|3[01])|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\./u;

/** Unique local and link-local networks, and that of the loopback address, as `addressPrefix` writes them. */
const PRIVATE_IPV6 = /^(?:f[cd][\da-f]{2}|fe[89ab][\da-f]):|^0:0:0:0$/u;

/**
 * Finds out that limits per address hit all clients together: nearly all rejections come from one private address. That is
 * how clients behind NAT look (rootless Docker or Podman, Docker Desktop), or behind a load balancer that is no trusted proxy.
 *
 * Keeps salted hashes of up to `SAMPLE` private addresses.
 */
export class SharedAddressDetector {
  readonly #clock: () => number;
  /** Rejections of the sample by key. */
  readonly #counts = new Map<string, number>();
  #rejections = 0;
  #salt = newSalt();
  #saltCreatedAtMs: number;

  /** @param clock milliseconds of a monotonic clock */
  constructor(clock: () => number) {
    this.#clock = clock;
    this.#saltCreatedAtMs = clock();
  }

  /** What `rejected` needs to know of an address; null: it is not private. */
  keyOf(address: string): string | null {
    const prefix = addressPrefix(address);
    if (!isPrivate(prefix)) return null;
    const now = this.#clock();
    if (now - this.#saltCreatedAtMs > SALT_ROTATION_MS) {
      this.#saltCreatedAtMs = now;
      this.#salt = newSalt();
      this.#startSample();
    }
    return hashPrefix(this.#salt, prefix);
  }

  /** Counts a rejection by a limit per address. Returns true if it completes a sample, and nearly all of that is from one private address. */
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

function isPrivate(prefix: string): boolean {
  return (prefix.includes(':') ? PRIVATE_IPV6 : PRIVATE_IPV4).test(prefix);
}
