import type { Token } from '../protocol/messages.ts';
import { CoordinatorClient, CoordinatorError } from './coordinator-client.ts';
import { LeaseKeys } from './lease-format.ts';
import { LeaseStore } from './lease-store.ts';
import type { LeaseState } from './lease-store.ts';
import type { Owner } from './router.ts';

/** Runs something again and again, and at once when that is needed; never twice at a time. */
export class RenewalLoop {
  readonly #intervalMs: number;
  readonly #renew: () => Promise<void>;
  readonly #clock: () => number;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | null = null;
  #rerun = false;
  #closed = false;

  /**
   * @param everyMs the longest time from the beginning of a round to that of the next, in milliseconds, unless a round takes longer
   * @param round must not reject
   * @param clock milliseconds of a clock that never jumps
   */
  constructor(everyMs: number, round: () => Promise<void>, clock = (): number => performance.now()) {
    this.#intervalMs = everyMs;
    this.#renew = round;
    this.#clock = clock;
    this.#schedule(0);
  }

  /** Runs a round, after the one that runs if there is one. */
  runNow(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    if (this.#running !== null) this.#rerun = true;
    else this.#running = this.#run();
  }

  /** Resolves when the round that runs has ended; no other begins. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  async #run(): Promise<void> {
    let beganAt = 0;
    do {
      this.#rerun = false;
      beganAt = this.#clock();
      await this.#renew();
    } while (this.#rerun && !this.#closed);
    this.#running = null;
    this.#schedule(this.#clock() - beganAt);
  }

  /** Relays that were started at one time, or lost the coordinator at one time, do not come in step for long. */
  #schedule(tookMs: number): void {
    if (this.#closed) return;
    const pauseMs = this.#intervalMs * (0.8 + Math.random() / 5) - tookMs;
    this.#timer = setTimeout(() => this.runNow(), Math.max(0, pauseMs));
  }
}

/** Whose a token is: who waits for it waits here, or goes there. */
export type AcquireResult = { readonly kind: 'ours' } | { readonly kind: 'theirs'; readonly owner: Owner };

export const OURS: AcquireResult = { kind: 'ours' };

/** One token that this relay claims, or gives up at the moment. */
export class Lease {
  readonly token: Token;
  readonly key: string;
  /** Somebody waits for it here. */
  desired = true;
  /** The coordinator has said that it is ours. */
  acquired = false;
  /** A command about it alone is on its way, and what comes next waits for the answer: there is one at a time. */
  inFlight = false;
  /** Whose claim is to be taken over. */
  previousOwner: Owner | null = null;
  /** Somebody was told that it is ours, though that is not known. */
  #provisional = false;
  /** Null while there is none: entries are many, and wait for answers rarely. */
  #waiters: Set<(lease: AcquireResult) => void> | null = null;

  constructor(token: Token, key: string) {
    this.token = token;
    this.key = key;
  }

  /** Whether who was told that it is ours has to be told if it is not. */
  get provisional(): boolean {
    return this.#provisional;
  }

  /** Nobody waits for it here any more, nor for what becomes of it. */
  release(): void {
    this.desired = false;
    this.#provisional = false;
  }

  /** Says that it is ours, for now. */
  acquireProvisionally(): AcquireResult {
    this.#provisional = true;
    return OURS;
  }

  /**
   * Waits for what the coordinator says, and no longer than `timeoutMs`.
   *
   * @param late told when that time is over
   */
  awaitAnswer(timeoutMs: number, late: () => void): Promise<AcquireResult> {
    return new Promise((resolve) => {
      const answer = (lease: AcquireResult): void => {
        clearTimeout(timer);
        resolve(lease);
      };
      const timer = setTimeout(() => {
        this.#waiters?.delete(answer);
        resolve(this.acquireProvisionally());
        late();
      }, timeoutMs);
      this.#waiters ??= new Set();
      this.#waiters.add(answer);
    });
  }

  /** Tells all that wait for an answer. */
  settle(lease: AcquireResult): void {
    const waiting = this.#waiters;
    if (waiting === null) return;
    this.#waiters = null;
    if (lease.kind === 'ours' && waiting.size > 0) this.#provisional = true;
    for (const answer of waiting) answer(lease);
  }
}

/** How long a claim outlives a relay that has died, in milliseconds, when the caller does not say. */
const LEASE_MS = 30_000;

/** Two renewals may fail before a claim is lost. */
const RENEWALS_PER_LEASE = 3;

/** How long a client may wait for the coordinator, in milliseconds. */
const ANSWER_TIMEOUT_MS = 500;

/** Claims in one command: the coordinator does nothing else meanwhile, for a millisecond or two. */
const RENEWAL_BATCH = 500;

/** In which claims are to be released at the end, in milliseconds. */
const CLOSE_TIMEOUT_MS = 2000;

export interface TokenLeasesEvents {
  /** Another relay has what was thought to be ours: who waits here has to go there. It is not claimed any more. */
  readonly onLeaseLost: (token: Token, owner: Owner) => void;
  /** The coordinator does what it is asked, in time. Told on changes only. */
  readonly onUp: () => void;
  /** It does not. Told on changes only; `code` is a system's, or the first word of its answer, like `WRONGPASS`. */
  readonly onDown: (code: string) => void;
  /** A relay that uses this coordinator has another secret, so that nobody meets between the two. Told each time that this is seen. */
  readonly onSecretMismatch: () => void;
}

export interface TokenLeasesOptions {
  /** `redis://` or `rediss://`, with user, password and the database's number as needed. */
  readonly url: string;
  /** The group's. The same secret gives tokens the same keys. */
  readonly secret: string;
  readonly self: Owner;
  /** 30 s if it is left out. */
  readonly leaseMs?: number;
  readonly events: TokenLeasesEvents;
}

/** Since the start. */
export interface TokenLeasesTotals {
  /** Sent to the coordinator. */
  readonly commands: number;
  /** Claims that were another relay's before. */
  readonly takenOver: number;
  /** Claims that `lost` was told of. */
  readonly lost: number;
  /** Claims that could not be made when they were asked for. */
  readonly deferred: number;
  /** What was found under a key was no relay's of this version. */
  readonly unreadable: number;
  /** Times that `otherGroup` was told. */
  readonly secretMismatches: number;
}

/**
 * Which tokens are this relay's, among a group of relays.
 *
 * A token is in here from `claim` or `takeOver` until `release`, `lost`, or an answer that it is another's. For each there is
 * one command on its way at the most, and what it has to come to is looked at again when that is answered; so it does
 * not matter in which order clients come and go meanwhile. What can't be asked is ours for now. When the coordinator
 * is well again, a renewal of all claims claims that too, and finds out what has become another's.
 */
export class TokenLeases {
  readonly #events: TokenLeasesEvents;
  readonly #keys: LeaseKeys;
  readonly #coordinator: CoordinatorClient;
  readonly #store: LeaseStore;
  readonly #renewalLoop: RenewalLoop;
  readonly #leases = new Map<Token, Lease>();
  #closed = false;
  #acquired = 0;
  #lost = 0;
  #deferred = 0;
  #unreadable = 0;
  #secretMismatches = 0;

  private constructor({ url, secret, self, leaseMs = LEASE_MS, events }: TokenLeasesOptions) {
    this.#events = events;
    this.#keys = new LeaseKeys(secret);
    this.#coordinator = new CoordinatorClient(url, this.#keys.clusterId, {
      onUp: () => {
        if (this.#closed) return;
        events.onUp();
        this.#renewalLoop.runNow();
      },
      onDown: (code) => {
        if (!this.#closed) events.onDown(code);
      },
      onSecretMismatch: () => {
        this.#secretMismatches += 1;
        if (!this.#closed) events.onSecretMismatch();
      },
    });
    this.#store = new LeaseStore(this.#coordinator, self, leaseMs);
    this.#renewalLoop = new RenewalLoop(leaseMs / RENEWALS_PER_LEASE, () => this.#renewAll());
  }

  /**
   * Connects in the background, and again whenever that is needed.
   *
   * @throws CoordinatorError with the code `EINVAL`: the URL is none
   */
  static open(options: TokenLeasesOptions): TokenLeases {
    return new TokenLeases(options);
  }

  /** Whether the coordinator does what it is asked, in time. */
  get isUp(): boolean {
    return this.#coordinator.isUp;
  }

  /** What is wrong with it: a code like those that `down` tells; null when nothing is. */
  get downReason(): string | null {
    return this.#coordinator.downReason;
  }

  /** Tokens that are ours, or are to be as soon as that can be asked. */
  get desired(): number {
    return this.#leases.size;
  }

  /** Of these, the ones that the coordinator has said are ours. */
  get acquired(): number {
    return this.#acquired;
  }

  get totals(): TokenLeasesTotals {
    return {
      commands: this.#coordinator.commands,
      takenOver: this.#store.takenOver,
      lost: this.#lost,
      deferred: this.#deferred,
      unreadable: this.#unreadable,
      secretMismatches: this.#secretMismatches,
    };
  }

  /**
   * Claims a token, for all that wait for it here: it need not be counted how many.
   *
   * Never rejects, and takes 500 ms at most. What can't be asked in that time is ours for now; `lost` is told when it
   * turns out to be another's. What is another's is not claimed here.
   */
  acquire(token: Token): Promise<AcquireResult> {
    return this.#request(token, null);
  }

  /** The owner could not be reached: its claim becomes ours, unless somebody else has it by now. Otherwise like `claim`. */
  takeOver(token: Token, owner: Owner): Promise<AcquireResult> {
    return this.#request(token, owner);
  }

  /** Whether it is that relay's. Where that can't be asked it is. Never rejects. */
  isOwner(token: Token, owner: Owner): Promise<boolean> {
    return this.#store.isOwner(this.#keys.forToken(token), owner);
  }

  /** Nobody waits for it here any more. Does nothing for a token that is not claimed. */
  release(token: Token): void {
    const entry = this.#leases.get(token);
    if (entry === undefined) return;
    entry.release();
    if (!entry.inFlight) void this.#reconcile(entry);
  }

  /** Releases all claims, as far as that takes less than two seconds, and disconnects. Nothing is told any more. */
  async close(): Promise<void> {
    this.#closed = true;
    const timeIsUp = Promise.withResolvers<void>();
    const timer = setTimeout(timeIsUp.resolve, CLOSE_TIMEOUT_MS);
    await Promise.race([this.#releaseAll(), timeIsUp.promise]);
    clearTimeout(timer);
    for (const entry of this.#leases.values()) entry.settle(OURS);
    this.#leases.clear();
    this.#acquired = 0;
    await this.#coordinator.close();
    await this.#renewalLoop.close();
  }

  #request(token: Token, takeFrom: Owner | null): Promise<AcquireResult> {
    if (this.#closed) return Promise.resolve(OURS);
    let entry = this.#leases.get(token);
    if (entry === undefined) {
      entry = new Lease(token, this.#keys.forToken(token));
      this.#leases.set(token, entry);
    }
    entry.desired = true;
    if (entry.acquired && !entry.inFlight) return Promise.resolve(entry.acquireProvisionally());
    entry.previousOwner = takeFrom ?? entry.previousOwner;
    const { isUp } = this.#coordinator;
    const lease = isUp
      ? entry.awaitAnswer(ANSWER_TIMEOUT_MS, () => this.#coordinator.markUnhealthy('ETIMEDOUT'))
      : null;
    if (lease === null) entry.acquireProvisionally();
    // Where it is slow it is asked, but nobody waits for the answer.
    if (!entry.inFlight) void this.#reconcile(entry);
    return lease ?? Promise.resolve(OURS);
  }

  /** Asks the coordinator until this token is what it has to be, or can't be asked. Never rejects. */
  async #reconcile(entry: Lease): Promise<void> {
    entry.inFlight = true;
    try {
      while (entry.desired !== entry.acquired) await this.#reconcileOnce(entry);
    } catch (error) {
      // What it is about is told by `down`; anything else would be a fault of ours.
      if (!(error instanceof CoordinatorError)) throw error;
      if (entry.desired) this.#deferred += 1;
    }
    entry.inFlight = false;
    if (!entry.desired) this.#remove(entry);
    entry.settle(OURS);
  }

  async #reconcileOnce(entry: Lease): Promise<void> {
    const { key, previousOwner: takeFrom } = entry;
    if (!entry.desired) {
      await this.#store.release([key]);
      this.#setAcquired(entry, false);
      return;
    }
    entry.previousOwner = null;
    const held = await (takeFrom === null ? this.#store.acquire(key) : this.#store.takeOver(key, takeFrom));
    this.#applyState(entry, held);
    // Else it would be asked again at once, without end.
    if (held.kind === 'unreadable') throw new CoordinatorError('EPROTO');
  }

  /** Nobody has to be told what a released token has become. */
  #applyState(entry: Lease, held: LeaseState): void {
    if (held.kind === 'unreadable') this.#unreadable += 1;
    this.#setAcquired(entry, held.kind === 'ours');
    if (held.kind !== 'theirs') return;
    const isLost = entry.provisional;
    entry.release();
    this.#remove(entry);
    entry.settle({ kind: 'theirs', owner: held.owner });
    if (!isLost || this.#closed) return;
    this.#lost += 1;
    this.#events.onLeaseLost(entry.token, held.owner);
  }

  #setAcquired(entry: Lease, held: boolean): void {
    if (this.#leases.get(entry.token) === entry) this.#acquired += Number(held) - Number(entry.acquired);
    entry.acquired = held;
  }

  #remove(entry: Lease): void {
    if (this.#leases.get(entry.token) !== entry) return;
    this.#setAcquired(entry, false);
    this.#leases.delete(entry.token);
  }

  /** One batch after the other, so that a claim waits for one of them at the most. */
  async #renewAll(): Promise<void> {
    const entries = [...this.#leases.values()];
    try {
      for (let at = 0; at < entries.length && !this.#closed; at += RENEWAL_BATCH) {
        await this.#renew(entries.slice(at, at + RENEWAL_BATCH).filter((entry) => this.#isRenewable(entry)));
      }
    } catch (error) {
      if (!(error instanceof CoordinatorError)) throw error;
    }
  }

  async #renew(entries: readonly Lease[]): Promise<void> {
    if (entries.length === 0) return;
    const others = await this.#store.renew(entries.map((entry) => entry.key));
    for (const [index, entry] of entries.entries()) {
      // About one that was released or claimed anew meanwhile a later answer says more.
      if (this.#isRenewable(entry)) this.#applyState(entry, others.get(index) ?? OURS);
    }
  }

  #isRenewable(entry: Lease): boolean {
    return entry.desired && !entry.inFlight && this.#leases.get(entry.token) === entry;
  }

  /** What is on its way for a token is answered first: the coordinator is asked in order. */
  async #releaseAll(): Promise<void> {
    const entries = [...this.#leases.values()];
    for (const entry of entries) entry.release();
    try {
      for (let at = 0; at < entries.length; at += RENEWAL_BATCH) {
        await this.#store.release(entries.slice(at, at + RENEWAL_BATCH).map((entry) => entry.key));
      }
    } catch (error) {
      if (!(error instanceof CoordinatorError)) throw error;
    }
  }
}
