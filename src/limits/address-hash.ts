import { hash, randomBytes } from 'node:crypto';

const SALT_BYTES = 32;

/** A salt that cannot be guessed. It must never leave the memory of this process. */
export function newSalt(random: (bytes: number) => Uint8Array = randomBytes): string {
  return Buffer.from(random(SALT_BYTES)).toString('hex');
}

/** Stands for an address prefix where the prefix itself must not be stored. */
export function hashPrefix(salt: string, prefix: string): string {
  return hash('sha256', salt + prefix, 'base64');
}
