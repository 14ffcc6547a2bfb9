import { addressPrefix } from '../protocol/ip-address.ts';
import { hashPrefix, newSalt } from './address-hash.ts';

/** Rejections per sample, and how many of them count as nearly all. */
const SAMPLE_SIZE = 20;
const SHARED_THRESHOLD = 18;

/** Lifetime of a salt, in milliseconds. An incomplete sample is dropped with it. */
const SALT_ROTATION_MS = 3_600_000;

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
    if (!isPrivate(prefix)) return null;
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

function isPrivate(prefix: string): boolean {
  return (prefix.includes(':') ? PRIVATE_IPV6 : PRIVATE_IPV4).test(prefix);
}
