import { DROP, RENEW, TAKE } from './claim-scripts.ts';
import { decodeOwner, encodeOwner } from './claim-value.ts';
import type { Owner } from '../net/elsewhere.ts';
import { CoordinatorError } from './claim-connection.ts';
import type { Coordinator } from './coordinator.ts';
import { firstWord } from './resp.ts';
import type { Reply } from './resp.ts';

/** What the coordinator says of a key. */
export type Held =
  | { readonly kind: 'ours' }
  | { readonly kind: 'theirs'; readonly owner: Owner }
  /** By something that is no relay of this version. */
  | { readonly kind: 'unreadable' }
  /** By nobody: it is full. Only a renewal says so. */
  | { readonly kind: 'nobody' };

const OURS: Held = { kind: 'ours' };

/** What is asked of the coordinator, in its own terms. Everything here may throw CoordinatorError. */
export class ClaimStore {
  readonly #coordinator: Coordinator;
  readonly #self: Owner;
  readonly #value: string;
  readonly #leaseMs: string;
  #takenOver = 0;

  constructor(coordinator: Coordinator, self: Owner, leaseMs: number) {
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
  async claim(key: string): Promise<Held> {
    const set = ['SET', key, this.#value, 'NX', 'GET', 'PX', this.#leaseMs];
    const there = this.#text(await this.#coordinator.ask(set));
    const held = this.#read(there);
    // One of ours is from before the connection was lost, and may be about to end.
    if (there === this.#value) return await this.#take(key, this.#value);
    // Two can't listen at one address: it was another process, and is gone.
    if (held.kind === 'theirs' && held.owner.address === this.#self.address) {
      return await this.takeOver(key, held.owner);
    }
    return held;
  }

  /** Claims what nobody has, or `owner`. */
  async takeOver(key: string, owner: Owner): Promise<Held> {
    const held = await this.#take(key, encodeOwner(owner));
    if (held.kind === 'ours') this.#takenOver += 1;
    return held;
  }

  /** Claims nothing. True where it can't be asked: the one thing here that never rejects. */
  async isOwner(key: string, owner: Owner): Promise<boolean> {
    try {
      return (await this.#coordinator.ask(['GET', key])) === encodeOwner(owner);
    } catch (error) {
      if (!(error instanceof CoordinatorError)) throw error;
      return true;
    }
  }

  /** Extends what is ours and claims what nobody has. Says what of each key that it did not do this for. */
  async renew(keys: readonly string[]): Promise<ReadonlyMap<number, Held>> {
    const answer = await this.#coordinator.run(RENEW, keys, [this.#value, this.#leaseMs]);
    if (!Array.isArray(answer) || answer.length % 2 === 0) throw this.#coordinator.unexpected();
    const [error, ...pairs]: readonly unknown[] = answer;
    const others = new Map<number, Held>();
    for (let at = 0; at < pairs.length; at += 2) {
      const [index, value] = [pairs[at], pairs[at + 1]];
      const isIndex = typeof index === 'number' && index >= 0 && index < keys.length;
      if (!isIndex || typeof value !== 'string') throw this.#coordinator.unexpected();
      others.set(index, value === '' ? { kind: 'nobody' } : this.#read(value));
    }
    if (typeof error !== 'string') throw this.#coordinator.unexpected();
    if (error !== '') this.#coordinator.suspect(firstWord(error));
    return others;
  }

  /** Gives up what is ours of these. */
  async drop(keys: readonly string[]): Promise<void> {
    await this.#coordinator.run(DROP, keys, [this.#value]);
  }

  async #take(key: string, from: string): Promise<Held> {
    const answer = await this.#coordinator.run(TAKE, [key], [this.#value, from, this.#leaseMs]);
    return this.#read(this.#text(answer));
  }

  /** What is under a key, or null. */
  #text(answer: Reply): string | null {
    if (answer === null || typeof answer === 'string') return answer;
    throw this.#coordinator.unexpected();
  }

  #read(there: string | null): Held {
    if (there === null || there === this.#value) return OURS;
    const owner = decodeOwner(there);
    return owner === null ? { kind: 'unreadable' } : { kind: 'theirs', owner };
  }
}
