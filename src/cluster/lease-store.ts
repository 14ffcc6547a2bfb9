import { CoordinatorError } from './coordinator-client.ts';
import type { CoordinatorClient } from './coordinator-client.ts';
import { RELEASE, RENEW, TAKE_OVER, decodeOwner, encodeOwner } from './lease-format.ts';
import { firstWord } from './resp.ts';
import type { Reply } from './resp.ts';
import type { Owner } from './router.ts';

/** What the coordinator says of a key. */
export type LeaseState =
  | { readonly kind: 'ours' }
  | { readonly kind: 'theirs'; readonly owner: Owner }
  /** By something that is no relay of this version. */
  | { readonly kind: 'unreadable' }
  /** By nobody: it is full. Only a renewal says so. */
  | { readonly kind: 'nobody' };

const OURS: LeaseState = { kind: 'ours' };

/** What is asked of the coordinator, in its own terms. Everything here may throw CoordinatorError. */
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

  /** Claims that another had before. */
  get takenOver(): number {
    return this.#takenOver;
  }

  /** Claims what nobody has: one command. */
  async acquire(key: string): Promise<LeaseState> {
    const set = ['SET', key, this.#value, 'NX', 'GET', 'PX', this.#leaseMs];
    const there = this.#expectText(await this.#coordinator.request(set));
    const held = this.#parse(there);
    // One of ours is from before the connection was lost, and may be about to end.
    if (there === this.#value) return await this.#takeFrom(key, this.#value);
    // Two can't listen at one address: it was another process, and is gone.
    if (held.kind === 'theirs' && held.owner.address === this.#self.address) {
      return await this.takeOver(key, held.owner);
    }
    return held;
  }

  /** Claims what nobody has, or `owner`. */
  async takeOver(key: string, owner: Owner): Promise<LeaseState> {
    const held = await this.#takeFrom(key, encodeOwner(owner));
    if (held.kind === 'ours') this.#takenOver += 1;
    return held;
  }

  /** Claims nothing. True where it can't be asked: the one thing here that never rejects. */
  async isOwner(key: string, owner: Owner): Promise<boolean> {
    try {
      return (await this.#coordinator.request(['GET', key])) === encodeOwner(owner);
    } catch (error) {
      if (!(error instanceof CoordinatorError)) throw error;
      return true;
    }
  }

  /** Extends what is ours and claims what nobody has. Says what of each key that it did not do this for. */
  async renew(keys: readonly string[]): Promise<ReadonlyMap<number, LeaseState>> {
    const answer = await this.#coordinator.runScript(RENEW, keys, [this.#value, this.#leaseMs]);
    if (!Array.isArray(answer) || answer.length % 2 === 0) throw this.#coordinator.protocolError();
    const [error, ...pairs]: readonly unknown[] = answer;
    const others = new Map<number, LeaseState>();
    for (let at = 0; at < pairs.length; at += 2) {
      const [index, value] = [pairs[at], pairs[at + 1]];
      const isIndex = typeof index === 'number' && index >= 0 && index < keys.length;
      if (!isIndex || typeof value !== 'string') throw this.#coordinator.protocolError();
      others.set(index, value === '' ? { kind: 'nobody' } : this.#parse(value));
    }
    if (typeof error !== 'string') throw this.#coordinator.protocolError();
    if (error !== '') this.#coordinator.markUnhealthy(firstWord(error));
    return others;
  }

  /** Gives up what is ours of these. */
  async release(keys: readonly string[]): Promise<void> {
    await this.#coordinator.runScript(RELEASE, keys, [this.#value]);
  }

  async #takeFrom(key: string, from: string): Promise<LeaseState> {
    const answer = await this.#coordinator.runScript(TAKE_OVER, [key], [this.#value, from, this.#leaseMs]);
    return this.#parse(this.#expectText(answer));
  }

  /** What is under a key, or null. */
  #expectText(answer: Reply): string | null {
    if (answer === null || typeof answer === 'string') return answer;
    throw this.#coordinator.protocolError();
  }

  #parse(there: string | null): LeaseState {
    if (there === null || there === this.#value) return OURS;
    const owner = decodeOwner(there);
    return owner === null ? { kind: 'unreadable' } : { kind: 'theirs', owner };
  }
}
