import { createHash, createHmac, createSecretKey, hkdfSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { parseHostPort } from '../config/endpoint.ts';
import type { Token } from '../protocol/messages.ts';
import { CoordinatorError, KEY_PREFIX } from './coordinator-client.ts';
import type { CoordinatorClient, Script } from './coordinator-client.ts';
import { firstWord } from './resp.ts';
import type { Reply } from './resp.ts';
import type { Owner } from './router.ts';

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

/** The state of a key in the coordinator. */
export type LeaseState =
  | { readonly kind: 'self' }
  | { readonly kind: 'other'; readonly owner: Owner }
  /** The value was not written by a relay of this version. */
  | { readonly kind: 'unreadable' }
  /** No value could be set: the coordinator is full. Only a renewal reports it. */
  | { readonly kind: 'unset' };

const SELF: LeaseState = { kind: 'self' };

/** Leases as commands to the coordinator. Every method may throw CoordinatorError, unless it says otherwise. */
export class LeaseStore {
  readonly #coordinator: CoordinatorClient;
  readonly #self: Owner;
  readonly #value: string;
  readonly #leaseMs: string;
  #takenOver = 0;

  constructor(coordinator: CoordinatorClient, self: Owner, leaseMs: number) {
    this.#coordinator = coordinator;
    this.#self = self;
    this.#value = encodeOwner(self);
    this.#leaseMs = String(leaseMs);
  }

  /** Leases that another relay had before. */
  get takenOver(): number {
    return this.#takenOver;
  }

  /** Leases a key that has no owner: one command. */
  async acquire(key: string): Promise<LeaseState> {
    const set = ['SET', key, this.#value, 'NX', 'GET', 'PX', this.#leaseMs];
    const there = this.#expectText(await this.#coordinator.request(set));
    const held = this.#parse(there);
    // This relay's own lease is from before the connection was lost, and may be about to expire.
    if (there === this.#value) return await this.#takeFrom(key, this.#value);
    // Two processes cannot listen at one address: the other one is gone.
    if (held.kind === 'other' && held.owner.address === this.#self.address) {
      return await this.takeOver(key, held.owner);
    }
    return held;
  }

  /** Leases a key that has no owner, or that `owner` has. */
  async takeOver(key: string, owner: Owner): Promise<LeaseState> {
    const held = await this.#takeFrom(key, encodeOwner(owner));
    if (held.kind === 'self') this.#takenOver += 1;
    return held;
  }

  /** Changes nothing. True if the coordinator is down: never rejects. */
  async isOwner(key: string, owner: Owner): Promise<boolean> {
    try {
      return (await this.#coordinator.request(['GET', key])) === encodeOwner(owner);
    } catch (error) {
      if (!(error instanceof CoordinatorError)) throw error;
      return true;
    }
  }

  /** Extends this relay's leases, and acquires keys without an owner. Returns the state of all other keys, by index. */
  async renew(keys: readonly string[]): Promise<ReadonlyMap<number, LeaseState>> {
    const answer = await this.#coordinator.runScript(RENEW, keys, [this.#value, this.#leaseMs]);
    if (!Array.isArray(answer) || answer.length % 2 === 0) throw this.#coordinator.protocolError();
    const [error, ...pairs]: readonly unknown[] = answer;
    const others = new Map<number, LeaseState>();
    for (let at = 0; at < pairs.length; at += 2) {
      const [index, value] = [pairs[at], pairs[at + 1]];
      const isIndex = typeof index === 'number' && index >= 0 && index < keys.length;
      if (!isIndex || typeof value !== 'string') throw this.#coordinator.protocolError();
      others.set(index, value === '' ? { kind: 'unset' } : this.#parse(value));
    }
    if (typeof error !== 'string') throw this.#coordinator.protocolError();
    if (error !== '') this.#coordinator.markUnhealthy(firstWord(error));
    return others;
  }

  /** Releases those of the keys that this relay owns. */
  async release(keys: readonly string[]): Promise<void> {
    await this.#coordinator.runScript(RELEASE, keys, [this.#value]);
  }

  async #takeFrom(key: string, from: string): Promise<LeaseState> {
    const answer = await this.#coordinator.runScript(TAKE_OVER, [key], [this.#value, from, this.#leaseMs]);
    return this.#parse(this.#expectText(answer));
  }

  /** The value of a key, or null. */
  #expectText(answer: Reply): string | null {
    if (answer === null || typeof answer === 'string') return answer;
    throw this.#coordinator.protocolError();
  }

  #parse(there: string | null): LeaseState {
    if (there === null || there === this.#value) return SELF;
    const owner = decodeOwner(there);
    return owner === null ? { kind: 'unreadable' } : { kind: 'other', owner };
  }
}
