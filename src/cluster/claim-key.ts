import { createHmac, createSecretKey, hkdfSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { Token } from '../protocol/wire.ts';

/** What all keys begin with, for those who look at the coordinator and for its access rules. */
export const KEY_PREFIX = 'transit-relay:';

/** Tells what is derived here from whatever else is derived from the same secret. */
const LABEL = 'transit-relay claims 1';

/** Enough that no two tokens ever share a key, in bytes; each one more is memory of the coordinator. */
const HASH_BYTES = 16;

/** Of what no token is: tokens are hex. */
const GROUP = 'group';

/** Gives tokens their keys. Without the secret a key says nothing of its token, not even to who guesses it. */
export class ClaimKeys {
  readonly #key: KeyObject;

  constructor(secret: string) {
    this.#key = createSecretKey(new Uint8Array(hkdfSync('sha256', secret, '', LABEL, 32)));
  }

  /** The same for every relay that has the secret. */
  of(token: Token): string {
    return KEY_PREFIX + this.#hashOf(token);
  }

  /** By which relays find out whether they have the same secret. It says nothing of that, unless it can be guessed. */
  get group(): string {
    return this.#hashOf(GROUP);
  }

  #hashOf(text: string): string {
    const hash = createHmac('sha256', this.#key).update(text).digest();
    return hash.subarray(0, HASH_BYTES).toString('base64url');
  }
}
