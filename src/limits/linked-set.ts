/** The neighbours of a member. They belong to the set that it is in. */
export interface Linked<Member> {
  previous: Member | null;
  next: Member | null;
}

/**
 * A set of objects that have fields for it, in the order in which they were added. An object can be in one such
 * set at a time.
 *
 * It is for connections, which come and go by the thousand. V8 would keep them alive long after their removal
 * from a `Set` or a `Map`: each time such a collection outgrows its table, the old table refers to the new one. Once
 * a dead table is in the old generation, all later tables follow it there, with everything that was in them, until V8
 * collects the old generation. Garbage collection then took a fifth of the CPU time of a pair. Finding the
 * first member of a `Set` also takes longer the more members were deleted before it.
 */
export class LinkedSet<Member extends Linked<Member>> {
  #first: Member | null = null;
  #last: Member | null = null;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The oldest member. */
  get first(): Member | null {
    return this.#first;
  }

  has(member: Member): boolean {
    return member.previous !== null || member === this.#first;
  }

  /** Does nothing if it is a member already. */
  add(member: Member): void {
    if (this.has(member)) return;
    member.previous = this.#last;
    if (this.#last === null) this.#first = member;
    else this.#last.next = member;
    this.#last = member;
    this.#size += 1;
  }

  /** Returns false if it is no member. */
  delete(member: Member): boolean {
    if (!this.has(member)) return false;
    const { previous, next } = member;
    if (previous === null) this.#first = next;
    else previous.next = next;
    if (next === null) this.#last = previous;
    else next.previous = previous;
    // Otherwise removed members would keep each other alive.
    member.previous = null;
    member.next = null;
    this.#size -= 1;
    return true;
  }

  /** The oldest member first. While it runs, no member may be removed except the current one. */
  *[Symbol.iterator](): Generator<Member> {
    for (let member = this.#first; member !== null;) {
      const { next }: Linked<Member> = member;
      yield member;
      member = next;
    }
  }
}
