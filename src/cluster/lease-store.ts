import { CoordinatorError } from './coordinator-client.ts';
import type { CoordinatorClient } from './coordinator-client.ts';
import { RELEASE, RENEW, TAKE_OVER, decodeOwner, encodeOwner } from './lease-format.ts';
import { firstWord } from './resp.ts';
import type { Reply } from './resp.ts';
import type { Owner } from './router.ts';

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
