import type { Token } from '../protocol/wire.ts';
import { CoordinatorError } from './claim-connection.ts';
import { ClaimEntry, OURS } from './claim-entry.ts';
import type { Claim } from './claim-entry.ts';
import { ClaimKeys } from './claim-key.ts';
import { ClaimRounds } from './claim-rounds.ts';
import { ClaimStore } from './claim-store.ts';
import type { Held } from './claim-store.ts';
import type { Owner } from '../net/elsewhere.ts';
import { Coordinator } from './coordinator.ts';

/** How long a claim outlives a relay that has died, in milliseconds, when the caller does not say. */
const LEASE_MS = 30_000;

/** Two renewals may fail before a claim is lost. */
const RENEWALS_IN_A_LEASE = 3;

/** How long a client may wait for the coordinator, in milliseconds. */
const ANSWER_MS = 500;

/** Claims in one command: the coordinator does nothing else meanwhile, for a millisecond or two. */
const BATCH = 500;

/** In which claims are to be released at the end, in milliseconds. */
const CLOSE_MS = 2000;

export interface ClaimsEvents {
  /** Another relay has what was thought to be ours: who waits here has to go there. It is not claimed any more. */
  readonly lost: (token: Token, owner: Owner) => void;
  /** The coordinator does what it is asked, in time. Told on changes only. */
  readonly up: () => void;
  /** It does not. Told on changes only; `code` is a system's, or the first word of its answer, like `WRONGPASS`. */
  readonly down: (code: string) => void;
  /** A relay that uses this coordinator has another secret, so that nobody meets between the two. Told each time that this is seen. */
  readonly otherGroup: () => void;
}

export interface ClaimsOptions {
  /** `redis://` or `rediss://`, with user, password and the database's number as needed. */
  readonly url: string;
  /** The group's. The same secret gives tokens the same keys. */
  readonly secret: string;
  readonly self: Owner;
  /** 30 s if it is left out. */
  readonly leaseMs?: number;
  readonly events: ClaimsEvents;
}

/** Since the start. */
export interface ClaimsTotals {
  /** Sent to the coordinator. */
  readonly commands: number;
  /** Claims that were another relay's before. */
  readonly takenOver: number;
  /** Claims that `lost` was told of. */
  readonly lost: number;
  /** Claims that could not be made when they were asked for. */
  readonly postponed: number;
  /** What was found under a key was no relay's of this version. */
  readonly unreadable: number;
  /** Times that `otherGroup` was told. */
  readonly otherGroups: number;
}

/**
 * Which tokens are this relay's, among a group of relays.
 *
 * A token is in here from `claim` or `takeOver` until `release`, `lost`, or an answer that it is another's. For each there is
 * one command on its way at the most, and what it has to come to is looked at again when that is answered; so it does
 * not matter in which order clients come and go meanwhile. What can't be asked is ours for now. When the coordinator
 * is well again, a renewal of all claims claims that too, and finds out what has become another's.
 */
export class Claims {
  readonly #events: ClaimsEvents;
  readonly #keys: ClaimKeys;
  readonly #coordinator: Coordinator;
  readonly #store: ClaimStore;
  readonly #rounds: ClaimRounds;
  readonly #entries = new Map<Token, ClaimEntry>();
  #closed = false;
  #held = 0;
  #lost = 0;
  #postponed = 0;
  #unreadable = 0;
  #otherGroups = 0;

  private constructor({ url, secret, self, leaseMs = LEASE_MS, events }: ClaimsOptions) {
    this.#events = events;
    this.#keys = new ClaimKeys(secret);
    this.#coordinator = new Coordinator(url, this.#keys.group, {
      up: () => {
        if (this.#closed) return;
        events.up();
        this.#rounds.now();
      },
      down: (code) => {
        if (!this.#closed) events.down(code);
      },
      otherGroup: () => {
        this.#otherGroups += 1;
        if (!this.#closed) events.otherGroup();
      },
    });
    this.#store = new ClaimStore(this.#coordinator, self, leaseMs);
    this.#rounds = new ClaimRounds(leaseMs / RENEWALS_IN_A_LEASE, () => this.#renewAll());
  }

  /**
   * Connects in the background, and again whenever that is needed.
   *
   * @throws CoordinatorError with the code `EINVAL`: the URL is none
   */
  static open(options: ClaimsOptions): Claims {
    return new Claims(options);
  }

  /** Whether the coordinator does what it is asked, in time. */
  get isUp(): boolean {
    return this.#coordinator.isUp;
  }

  /** What is wrong with it: a code like those that `down` tells; null when nothing is. */
  get fault(): string | null {
    return this.#coordinator.fault;
  }

  /** Tokens that are ours, or are to be as soon as that can be asked. */
  get wanted(): number {
    return this.#entries.size;
  }

  /** Of these, the ones that the coordinator has said are ours. */
  get held(): number {
    return this.#held;
  }

  get totals(): ClaimsTotals {
    return {
      commands: this.#coordinator.commands,
      takenOver: this.#store.takenOver,
      lost: this.#lost,
      postponed: this.#postponed,
      unreadable: this.#unreadable,
      otherGroups: this.#otherGroups,
    };
  }

  /**
   * Claims a token, for all that wait for it here: it need not be counted how many.
   *
   * Never rejects, and takes 500 ms at most. What can't be asked in that time is ours for now; `lost` is told when it
   * turns out to be another's. What is another's is not claimed here.
   */
  claim(token: Token): Promise<Claim> {
    return this.#want(token, null);
  }

  /** The owner could not be reached: its claim becomes ours, unless somebody else has it by now. Otherwise like `claim`. */
  takeOver(token: Token, owner: Owner): Promise<Claim> {
    return this.#want(token, owner);
  }

  /** Whether it is that relay's. Where that can't be asked it is. Never rejects. */
  isOwner(token: Token, owner: Owner): Promise<boolean> {
    return this.#store.isOwner(this.#keys.of(token), owner);
  }

  /** Nobody waits for it here any more. Does nothing for a token that is not claimed. */
  release(token: Token): void {
    const entry = this.#entries.get(token);
    if (entry === undefined) return;
    entry.release();
    if (!entry.busy) void this.#work(entry);
  }

  /** Releases all claims, as far as that takes less than two seconds, and disconnects. Nothing is told any more. */
  async close(): Promise<void> {
    this.#closed = true;
    const timeIsUp = Promise.withResolvers<void>();
    const timer = setTimeout(timeIsUp.resolve, CLOSE_MS);
    await Promise.race([this.#releaseAll(), timeIsUp.promise]);
    clearTimeout(timer);
    for (const entry of this.#entries.values()) entry.settle(OURS);
    this.#entries.clear();
    this.#held = 0;
    await this.#coordinator.close();
    await this.#rounds.close();
  }

  #want(token: Token, takeFrom: Owner | null): Promise<Claim> {
    if (this.#closed) return Promise.resolve(OURS);
    let entry = this.#entries.get(token);
    if (entry === undefined) {
      entry = new ClaimEntry(token, this.#keys.of(token));
      this.#entries.set(token, entry);
    }
    entry.wanted = true;
    if (entry.held && !entry.busy) return Promise.resolve(entry.promise());
    entry.takeFrom = takeFrom ?? entry.takeFrom;
    const { isUp } = this.#coordinator;
    const claim = isUp ? entry.answer(ANSWER_MS, () => this.#coordinator.suspect('ETIMEDOUT')) : null;
    if (claim === null) entry.promise();
    // Where it is slow it is asked, but nobody waits for the answer.
    if (!entry.busy) void this.#work(entry);
    return claim ?? Promise.resolve(OURS);
  }

  /** Asks the coordinator until this token is what it has to be, or can't be asked. Never rejects. */
  async #work(entry: ClaimEntry): Promise<void> {
    entry.busy = true;
    try {
      while (entry.wanted !== entry.held) await this.#step(entry);
    } catch (error) {
      // What it is about is told by `down`; anything else would be a fault of ours.
      if (!(error instanceof CoordinatorError)) throw error;
      if (entry.wanted) this.#postponed += 1;
    }
    entry.busy = false;
    if (!entry.wanted) this.#forget(entry);
    entry.settle(OURS);
  }

  async #step(entry: ClaimEntry): Promise<void> {
    const { key, takeFrom } = entry;
    if (!entry.wanted) {
      await this.#store.drop([key]);
      this.#hold(entry, false);
      return;
    }
    entry.takeFrom = null;
    const held = await (takeFrom === null ? this.#store.claim(key) : this.#store.takeOver(key, takeFrom));
    this.#learn(entry, held);
    // Else it would be asked again at once, without end.
    if (held.kind === 'unreadable') throw new CoordinatorError('EPROTO');
  }

  /** Nobody has to be told what a released token has become. */
  #learn(entry: ClaimEntry, held: Held): void {
    if (held.kind === 'unreadable') this.#unreadable += 1;
    this.#hold(entry, held.kind === 'ours');
    if (held.kind !== 'theirs') return;
    const isLost = entry.promised;
    entry.release();
    this.#forget(entry);
    entry.settle({ kind: 'theirs', owner: held.owner });
    if (!isLost || this.#closed) return;
    this.#lost += 1;
    this.#events.lost(entry.token, held.owner);
  }

  #hold(entry: ClaimEntry, held: boolean): void {
    if (this.#entries.get(entry.token) === entry) this.#held += Number(held) - Number(entry.held);
    entry.held = held;
  }

  #forget(entry: ClaimEntry): void {
    if (this.#entries.get(entry.token) !== entry) return;
    this.#hold(entry, false);
    this.#entries.delete(entry.token);
  }

  /** One batch after the other, so that a claim waits for one of them at the most. */
  async #renewAll(): Promise<void> {
    const entries = [...this.#entries.values()];
    try {
      for (let at = 0; at < entries.length && !this.#closed; at += BATCH) {
        await this.#renew(entries.slice(at, at + BATCH).filter((entry) => this.#isQuiet(entry)));
      }
    } catch (error) {
      if (!(error instanceof CoordinatorError)) throw error;
    }
  }

  async #renew(entries: readonly ClaimEntry[]): Promise<void> {
    if (entries.length === 0) return;
    const others = await this.#store.renew(entries.map((entry) => entry.key));
    for (const [index, entry] of entries.entries()) {
      // About one that was released or claimed anew meanwhile a later answer says more.
      if (this.#isQuiet(entry)) this.#learn(entry, others.get(index) ?? OURS);
    }
  }

  #isQuiet(entry: ClaimEntry): boolean {
    return entry.wanted && !entry.busy && this.#entries.get(entry.token) === entry;
  }

  /** What is on its way for a token is answered first: the coordinator is asked in order. */
  async #releaseAll(): Promise<void> {
    const entries = [...this.#entries.values()];
    for (const entry of entries) entry.release();
    try {
      for (let at = 0; at < entries.length; at += BATCH) {
        await this.#store.drop(entries.slice(at, at + BATCH).map((entry) => entry.key));
      }
    } catch (error) {
      if (!(error instanceof CoordinatorError)) throw error;
    }
  }
}
