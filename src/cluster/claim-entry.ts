import type { Token } from '../protocol/wire.ts';
import type { Owner } from '../net/elsewhere.ts';

/** Whose a token is: who waits for it waits here, or goes there. */
export type Claim = { readonly kind: 'ours' } | { readonly kind: 'theirs'; readonly owner: Owner };

export const OURS: Claim = { kind: 'ours' };

/** One token that this relay claims, or gives up at the moment. */
export class ClaimEntry {
  readonly token: Token;
  readonly key: string;
  /** Somebody waits for it here. */
  wanted = true;
  /** The coordinator has said that it is ours. */
  held = false;
  /** A command about it alone is on its way, and what comes next waits for the answer: there is one at a time. */
  busy = false;
  /** Whose claim is to be taken over. */
  takeFrom: Owner | null = null;
  /** Somebody was told that it is ours, though that is not known. */
  #promised = false;
  /** Null while there is none: entries are many, and wait for answers rarely. */
  #waiting: Set<(claim: Claim) => void> | null = null;

  constructor(token: Token, key: string) {
    this.token = token;
    this.key = key;
  }

  /** Whether who was told that it is ours has to be told if it is not. */
  get promised(): boolean {
    return this.#promised;
  }

  /** Nobody waits for it here any more, nor for what becomes of it. */
  release(): void {
    this.wanted = false;
    this.#promised = false;
  }

  /** Says that it is ours, for now. */
  promise(): Claim {
    this.#promised = true;
    return OURS;
  }

  /**
   * Waits for what the coordinator says, and no longer than `timeoutMs`.
   *
   * @param late told when that time is over
   */
  answer(timeoutMs: number, late: () => void): Promise<Claim> {
    return new Promise((resolve) => {
      const answer = (claim: Claim): void => {
        clearTimeout(timer);
        resolve(claim);
      };
      const timer = setTimeout(() => {
        this.#waiting?.delete(answer);
        resolve(this.promise());
        late();
      }, timeoutMs);
      this.#waiting ??= new Set();
      this.#waiting.add(answer);
    });
  }

  /** Tells all that wait for an answer. */
  settle(claim: Claim): void {
    const waiting = this.#waiting;
    if (waiting === null) return;
    this.#waiting = null;
    if (claim.kind === 'ours' && waiting.size > 0) this.#promised = true;
    for (const answer of waiting) answer(claim);
  }
}
