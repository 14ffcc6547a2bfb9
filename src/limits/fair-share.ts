/**
 * The least that is given to somebody who waits, in bytes: one read of the smallest size. Where a rate has less than
 * this for everybody, they take turns; smaller gifts would let all of them go on in the same moment.
 */
const QUANTUM_BYTES = 16_384;

/** What nobody needs is kept for this long, in milliseconds: 1 % of 5 s, and several ticks. */
const BURST_MS = 50;

/** Needs are guessed from what was spent since the last gift: one that is growing finds it doubled. */
const DEMAND_GROWTH = 2;

/** What a member has. It belongs to the `FairShare`. */
export interface Share {
  /** What it may spend; below 0 a debt. */
  creditBytes: number;
  /** What it has spent since it was last given something and out of debt: by that its need is guessed. */
  consumedBytes: number;
}

/**
 * Shares one rate between members that come, spend and go. No bytes are made up or lost: what was spent by all is what
 * the rate has brought, but for a debt of one read each.
 *
 * While there is enough (`isCalm`), everybody draws from the pool as they spend. When it is empty, who needs some
 * waits, and `distribute` gives each the same, but none more than it seems to need (max-min fairness): what it does not
 * use is taken back the next time, so that it reaches who can.
 */
export class FairShare<Member extends Share> {
  readonly #bytesPerMs: number;
  readonly #burstBytes: number;
  readonly #clock: () => number;
  #refilledAt: number;
  /** What nobody has been given. Below 0 when members have left in debt. */
  #poolBytes: number;
  /** Who needs some before it may go on; who has waited longest is first. */
  readonly #waiting = new Set<Member>();
  /** Those that were given something, and have spent since. Empty while it is calm. */
  readonly #active = new Set<Member>();
  #isUncontended = true;

  /** @param clock milliseconds of a clock that never jumps */
  constructor(bytesPerSecond: number, clock: () => number) {
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#burstBytes = this.#bytesPerMs * BURST_MS;
    this.#poolBytes = this.#burstBytes;
    this.#clock = clock;
    this.#refilledAt = clock();
  }

  /** False while `distribute` has to be called every few milliseconds. */
  get isUncontended(): boolean {
    return this.#isUncontended;
  }

  /**
   * Takes a member in. It pays for its first read before it comes to it, and is given that back when it leaves: else
   * many that come at once would all read at once.
   *
   * @returns whether it may go on; otherwise it waits
   */
  join(member: Member): boolean {
    if (this.#isUncontended) this.#refill();
    member.creditBytes = -QUANTUM_BYTES;
    if (this.#waiting.size > 0 || this.#poolBytes <= 0) {
      this.wait(member);
      return false;
    }
    this.#grant(member, QUANTUM_BYTES);
    return true;
  }

  /** Forgets a member. What it did not use is there for the others, and so is its debt. */
  leave(member: Member): void {
    this.#waiting.delete(member);
    this.#active.delete(member);
    this.#poolBytes += member.creditBytes + QUANTUM_BYTES;
  }

  /** A member has spent some. Returns whether it has paid for that. */
  consume(member: Member, bytes: number): boolean {
    if (this.#isUncontended) this.#refill();
    member.creditBytes -= bytes;
    member.consumedBytes += bytes;
    if (member.creditBytes < 0 && this.#waiting.size === 0) {
      this.#grant(member, Math.min(-member.creditBytes, Math.max(0, this.#poolBytes)));
    }
    return member.creditBytes >= 0;
  }

  /** A member can't go on before it is given some. */
  wait(member: Member): void {
    this.#isUncontended = false;
    this.#active.delete(member);
    this.#waiting.add(member);
  }

  /** Gives what there is to those who need it. Returns who waited and need not any longer. */
  distribute(): Member[] {
    this.#refill();
    for (const member of this.#active) this.#reclaim(member);
    this.#isUncontended = this.#waiting.size === 0;
    if (this.#isUncontended) {
      for (const member of this.#active) member.consumedBytes = 0;
      this.#active.clear();
      this.#capPool();
      return [];
    }
    const enough = QUANTUM_BYTES * (this.#waiting.size + this.#active.size);
    const mayGo = this.#poolBytes < enough ? this.#grantQuanta() : this.#grantShares();
    if (this.#waiting.size === 0) this.#capPool();
    return mayGo;
  }

  /** Everybody gets the same part of what is left, or all that it needs. */
  #grantShares(): Member[] {
    const mayGo: Member[] = [];
    let left = this.#active.size + this.#waiting.size;
    for (const member of [...this.#active, ...this.#waiting]) {
      this.#grant(member, Math.min(this.#demandBytes(member), this.#poolBytes / left));
      left -= 1;
      if (this.#unblock(member)) mayGo.push(member);
    }
    return mayGo;
  }

  /** Who has waited longest gets a turn. Who is still in debt then waits behind the others. */
  #grantQuanta(): Member[] {
    for (const member of this.#active) member.consumedBytes = 0;
    const mayGo: Member[] = [];
    for (const member of this.#waiting) {
      if (this.#poolBytes < QUANTUM_BYTES) break;
      this.#grant(member, QUANTUM_BYTES);
      this.#waiting.delete(member);
      this.#waiting.add(member);
      if (this.#unblock(member)) mayGo.push(member);
    }
    return mayGo;
  }

  #demandBytes(member: Member): number {
    const growth = DEMAND_GROWTH * member.consumedBytes;
    return this.#waiting.has(member) ? growth - member.creditBytes + QUANTUM_BYTES : growth;
  }

  #grant(member: Member, bytes: number): void {
    this.#poolBytes -= bytes;
    member.creditBytes += bytes;
  }

  /** Ends a member's waiting, if it is out of debt. */
  #unblock(member: Member): boolean {
    if (member.creditBytes < 0) return false;
    // Not sooner: whoever makes large reads pays for one in several gifts, and is not to seem to need little meanwhile.
    member.consumedBytes = 0;
    if (!this.#waiting.delete(member)) return false;
    this.#active.add(member);
    return true;
  }

  #reclaim(member: Member): void {
    const unused = Math.max(0, member.creditBytes);
    this.#poolBytes += unused;
    member.creditBytes -= unused;
    if (member.consumedBytes === 0) this.#active.delete(member);
  }

  #refill(): void {
    const now = this.#clock();
    this.#poolBytes += this.#bytesPerMs * (now - this.#refilledAt);
    this.#refilledAt = now;
    if (this.#isUncontended) this.#capPool();
  }

  /** What is not needed now may not become a burst later. */
  #capPool(): void {
    this.#poolBytes = Math.min(this.#poolBytes, this.#burstBytes);
  }
}
