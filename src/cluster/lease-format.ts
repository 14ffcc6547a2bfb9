import { createHash, createHmac, createSecretKey, hkdfSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { parseHostPort } from '../config/endpoint.ts';
import type { Token } from '../protocol/messages.ts';
import type { Owner } from './router.ts';

/** Prefix of all keys, for operators and access rules of the coordinator. */
export const KEY_PREFIX = 'transit-relay:';

/** Keeps this key apart from other keys that are derived from the same secret. */
const KEY_DERIVATION_LABEL = 'transit-relay claims 1';

/** Large enough that two tokens never share a key, in bytes. Each further byte is memory of the coordinator. */
const HASH_BYTES = 16;

/** Not a token: tokens are hex. Stored, so it cannot change. */
const CLUSTER_ID_INPUT = 'group';

/** Maps tokens to keys. Without the secret a key reveals nothing about its token, and a guess cannot be checked. */
export class LeaseKeys {
  readonly #key: KeyObject;

  constructor(secret: string) {
    this.#key = createSecretKey(new Uint8Array(hkdfSync('sha256', secret, '', KEY_DERIVATION_LABEL, 32)));
  }

  /** The same for every relay that has the secret. */
  forToken(token: Token): string {
    return KEY_PREFIX + this.#hash(token);
  }

  /** Lets relays compare their secrets. It reveals nothing about the secret, unless that can be guessed. */
  get clusterId(): string {
    return this.#hash(CLUSTER_ID_INPUT);
  }

  #hash(text: string): string {
    const hash = createHmac('sha256', this.#key).update(text).digest();
    return hash.subarray(0, HASH_BYTES).toString('base64url');
  }
}

/** Must change if a relay that knows the old format cannot read the new one. */
const OWNER_VERSION = '1';

/** The longest value: a DNS name has 253 characters, and a port up to five. */
const OWNER_PATTERN = /^1 (?<id>[\w-]{8,64}) (?<address>[\x21-\x7e]{3,262})$/u;

/** The value of a token's key: its owner. */
export function encodeOwner({ id, address }: Owner): string {
  return `${OWNER_VERSION} ${id} ${address}`;
}

/** Null if the value was not written by a relay of this version: the id or the address has another format. */
export function decodeOwner(value: string): Owner | null {
  const { id, address } = OWNER_PATTERN.exec(value)?.groups ?? {};
  return id === undefined || address === undefined || parseHostPort(address) === null
    ? null
    : { id, address };
}

/** A script that the coordinator runs atomically, and its name there. */
export interface Script {
  readonly source: string;
  readonly sha1: string;
}

function script(source: string): Script {
  return { source, sha1: createHash('sha1').update(source).digest('hex') };
}

/**
 * Takes over a lease from a known owner. ARGV: this relay's value, the value that it may replace, the lease time in
 * milliseconds. Returns nil if this relay owns the key now, otherwise the other owner's value.
 */
export const TAKE_OVER = script(`
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] and held ~= ARGV[2] then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return nil
`);

/**
 * Extends this relay's leases, and sets missing ones again. ARGV: this relay's value, the lease time in milliseconds.
 * Returns an error or '', and then pairs: a position in KEYS, from 0, and another owner's value, or '' if no value could be
 * set. A full coordinator still extends leases, which takes no memory. Extending comes last: once a script has written, the
 * server does not reject its later writes.
 */
export const RENEW = script(`
local reply, ours = { '' }, {}
for i, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  if held == ARGV[1] then
    table.insert(ours, key)
  elseif held then
    table.insert(reply, i - 1)
    table.insert(reply, held)
  else
    local answer = redis.pcall('SET', key, ARGV[1], 'PX', ARGV[2])
    if answer.err then
      reply[1] = answer.err
      table.insert(reply, i - 1)
      table.insert(reply, '')
    end
  end
end
for _, key in ipairs(ours) do redis.call('PEXPIRE', key, ARGV[2]) end
return reply
`);

/** Releases those leases that this relay still owns. ARGV: this relay's value. */
export const RELEASE = script(`
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
return nil
`);

export const SCRIPTS: readonly Script[] = [TAKE_OVER, RENEW, RELEASE];
