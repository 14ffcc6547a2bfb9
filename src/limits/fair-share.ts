/**
 * The least that is given to somebody who waits, in bytes: one read of the smallest size. Where a rate has less than
 * this for everybody, they take turns; smaller gifts would let all of them go on in the same moment.
 */
const TURN_BYTES = 16_384;

/** What nobody needs is kept for this long, in milliseconds: 1 % of 5 s, and several ticks. */
const BURST_MS = 50;

/** Needs are guessed from what was spent since the last gift: one that is growing finds it doubled. */
const GROWTH = 2;

/** What a member has. It belongs to the `FairShare`. */
export interface Share {
  /** What it may spend; below 0 a debt. */
  creditBytes: number;
  /** What it has spent since it was last given something and out of debt: by that its need is guessed. */
  spentBytes: number;
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
  #earnedAt: number;
  /** What nobody has been given. Below 0 when members have left in debt. */
  #poolBytes: number;
  /** Who needs some before it may go on; who has waited longest is first. */
  readonly #waiting = new Set<Member>();
  /** Those that were given something, and have spent since. Empty while it is calm. */
  readonly #moving = new Set<Member>();
  #isCalm = true;

  /** @param clock milliseconds of a clock that never jumps */
  constructor(bytesPerSecond: number, clock: () => number) {
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#burstBytes = this.#bytesPerMs * BURST_MS;
    this.#poolBytes = this.#burstBytes;
    this.#clock = clock;
    this.#earnedAt = clock();
  }

  /** False while `distribute` has to be called every few milliseconds. */
  get isCalm(): boolean {
    return this.#isCalm;
  }

  /**
   * Takes a member in. It pays for its first read before it comes to it, and is given that back when it leaves: else
   * many that come at once would all read at once.
   *
   * @returns whether it may go on; otherwise it waits
   */
  join(member: Member): boolean {
    if (this.#isCalm) this.#earn();
    member.creditBytes = -TURN_BYTES;
    if (this.#waiting.size > 0 || this.#poolBytes <= 0) {
      this.wait(member);
      return false;
    }
    this.#give(member, TURN_BYTES);
    return true;
  }

  /** Forgets a member. What it did not use is there for the others, and so is its debt. */
  leave(member: Member): void {
    this.#waiting.delete(member);
    this.#moving.delete(member);
    this.#poolBytes += member.creditBytes + TURN_BYTES;
  }

  /** A member has spent some. Returns whether it has paid for that. */
  spend(member: Member, bytes: number): boolean {
    if (this.#isCalm) this.#earn();
    member.creditBytes -= bytes;
    member.spentBytes += bytes;
    if (member.creditBytes < 0 && this.#waiting.size === 0) {
      this.#give(member, Math.min(-member.creditBytes, Math.max(0, this.#poolBytes)));
    }
    return member.creditBytes >= 0;
  }

  /** A member can't go on before it is given some. */
  wait(member: Member): void {
    this.#isCalm = false;
    this.#moving.delete(member);
    this.#waiting.add(member);
  }

  /** Gives what there is to those who need it. Returns who waited and need not any longer. */
  distribute(): Member[] {
    this.#earn();
    for (const member of this.#moving) this.#takeBack(member);
    this.#isCalm = this.#waiting.size === 0;
    if (this.#isCalm) {
      for (const member of this.#moving) member.spentBytes = 0;
      this.#moving.clear();
      this.#forgetPlenty();
      return [];
    }
    const enough = TURN_BYTES * (this.#waiting.size + this.#moving.size);
    const mayGo = this.#poolBytes < enough ? this.#giveTurns() : this.#giveShares();
    if (this.#waiting.size === 0) this.#forgetPlenty();
    return mayGo;
  }

  /** Everybody gets the same part of what is left, or all that it needs. */
  #giveShares(): Member[] {
    const mayGo: Member[] = [];
    let left = this.#moving.size + this.#waiting.size;
    for (const member of [...this.#moving, ...this.#waiting]) {
      this.#give(member, Math.min(this.#needBytes(member), this.#poolBytes / left));
      left -= 1;
      if (this.#release(member)) mayGo.push(member);
    }
    return mayGo;
  }

  /** Who has waited longest gets a turn. Who is still in debt then waits behind the others. */
  #giveTurns(): Member[] {
    for (const member of this.#moving) member.spentBytes = 0;
    const mayGo: Member[] = [];
    for (const member of this.#waiting) {
      if (this.#poolBytes < TURN_BYTES) break;
      this.#give(member, TURN_BYTES);
      this.#waiting.delete(member);
      this.#waiting.add(member);
      if (this.#release(member)) mayGo.push(member);
    }
    return mayGo;
  }

  #needBytes(member: Member): number {
    const growth = GROWTH * member.spentBytes;
    return this.#waiting.has(member) ? growth - member.creditBytes + TURN_BYTES : growth;
  }

  #give(member: Member, bytes: number): void {
    this.#poolBytes -= bytes;
    member.creditBytes += bytes;
  }

  /** Ends a member's waiting, if it is out of debt. */
  #release(member: Member): boolean {
    if (member.creditBytes < 0) return false;
    // Not sooner: whoever makes large reads pays for one in several gifts, and is not to seem to need little meanwhile.
    member.spentBytes = 0;
    if (!this.#waiting.delete(member)) return false;
    this.#moving.add(member);
    return true;
  }

  #takeBack(member: Member): void {
    const unused = Math.max(0, member.creditBytes);
    this.#poolBytes += unused;
    member.creditBytes -= unused;
    if (member.spentBytes === 0) this.#moving.delete(member);
  }

  #earn(): void {
    const now = this.#clock();
    this.#poolBytes += this.#bytesPerMs * (now - this.#earnedAt);
    this.#earnedAt = now;
    if (this.#isCalm) this.#forgetPlenty();
  }

  /** What is not needed now may not become a burst later. */
  #forgetPlenty(): void {
    this.#poolBytes = Math.min(this.#poolBytes, this.#burstBytes);
  }
}
