/**
 * The smallest grant to a waiting member, in bytes: one read of the smallest size. If the pool has less than
 * this for each member, they take turns; smaller grants would resume all of them at the same moment.
 */
const QUANTUM_BYTES = 16_384;

/** Unused rate is kept for this long, in milliseconds: 1 % of 5 s, and several ticks. */
const BURST_MS = 50;

/**
 * Demand is estimated from the bytes consumed since the last grant. A member that uses all of it gets twice
 * as much.
 */
const DEMAND_GROWTH = 2;

/** The account of one member. Only `FairShare` changes it. */
export interface Share {
  /** Bytes that it may consume; a debt below 0. */
  creditBytes: number;
  /** Bytes consumed since it last had a grant and no debt. Its demand is estimated from them. */
  consumedBytes: number;
}

/**
 * Shares one rate between members. The sum of all consumed bytes is what the rate allows, except for a debt
 * of one read per member.
 *
 * While there is enough (`isUncontended`), members draw from the pool as they consume. When the pool is
 * empty, members wait, and `distribute` grants each the same, but none more than its estimated demand
 * (max-min fairness). Unused bytes are reclaimed the next time and go to other members.
 */
export class FairShare<Member extends Share> {
  readonly #bytesPerMs: number;
  readonly #burstBytes: number;
  readonly #clock: () => number;
  #refilledAt: number;
  /** Bytes that are not granted. Below 0 if members have left in debt. */
  #poolBytes: number;
  /** Members that need a grant to go on. The one that has waited longest is first. */
  readonly #waiting = new Set<Member>();
  /** Members that had a grant and have consumed since. Empty while uncontended. */
  readonly #active = new Set<Member>();
  #isUncontended = true;

  /** @param clock milliseconds of a monotonic clock */
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
   * Adds a member. It pays for its first read in advance and gets that back when it leaves. Otherwise many
   * members that join at once would all read at once.
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

  /** Removes a member. Its unused bytes, or its debt, go to the pool. */
  leave(member: Member): void {
    this.#waiting.delete(member);
    this.#active.delete(member);
    this.#poolBytes += member.creditBytes + QUANTUM_BYTES;
  }

  /** Counts bytes of a member. Returns false if it is now in debt. */
  consume(member: Member, bytes: number): boolean {
    if (this.#isUncontended) this.#refill();
    member.creditBytes -= bytes;
    member.consumedBytes += bytes;
    if (member.creditBytes < 0 && this.#waiting.size === 0) {
      this.#grant(member, Math.min(-member.creditBytes, Math.max(0, this.#poolBytes)));
    }
    return member.creditBytes >= 0;
  }

  /** The member cannot go on before its next grant. */
  wait(member: Member): void {
    this.#isUncontended = false;
    this.#active.delete(member);
    this.#waiting.add(member);
  }

  /** Grants the pool to the members that need it. Returns the members that no longer wait. */
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

  /** Grants each member an equal part of the rest of the pool, or its whole demand. */
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

  /**
   * Grants a quantum to the members that have waited longest. Members still in debt then wait behind the
   * others.
   */
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

  /** Stops a member's waiting if it has no debt. Returns true if it was waiting. */
  #unblock(member: Member): boolean {
    if (member.creditBytes < 0) return false;
    // Not earlier: a member with large reads pays for each with several grants. Its demand must not seem
    // small meanwhile.
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

  /** Bytes that are not needed now must not become a burst later. */
  #capPool(): void {
    this.#poolBytes = Math.min(this.#poolBytes, this.#burstBytes);
  }
}
