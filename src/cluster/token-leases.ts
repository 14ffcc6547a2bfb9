import type { CoordinatorAddress } from '../config/cluster-config.ts';
import type { Token } from '../protocol/messages.ts';
import { CoordinatorClient, CoordinatorError } from './coordinator-client.ts';
import type { CoordinatorEvents } from './coordinator-client.ts';
import { LeaseKeys, LeaseStore, SCRIPTS } from './lease-store.ts';
import type { LeaseState } from './lease-store.ts';
import type { Owner } from './router.ts';
import { NODE_RUNTIME, clearTimer } from './runtime.ts';
import type { Runtime, Timer } from './runtime.ts';

/** Runs a renewal periodically, and immediately on request; never two at a time. */
export class RenewalLoop {
  readonly #intervalMs: number;
  readonly #renew: () => Promise<void>;
  readonly #runtime: Runtime;
  #timer: Timer | undefined;
  #running: Promise<void> | null = null;
  #rerun = false;
  #closed = false;

  /**
   * @param intervalMs longest time between the starts of two renewals, in milliseconds, unless a renewal takes longer
   * @param renew must not reject
   */
  constructor(intervalMs: number, renew: () => Promise<void>, runtime = NODE_RUNTIME) {
    this.#intervalMs = intervalMs;
    this.#renew = renew;
    this.#runtime = runtime;
    this.#schedule(0);
  }

  /** Starts a renewal, after the one that is running, if any. */
  runNow(): void {
    if (this.#closed) return;
    clearTimer(this.#timer);
    if (this.#running !== null) this.#rerun = true;
    else this.#running = this.#run();
  }

  /** Resolves when the running renewal has ended. No other starts. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimer(this.#timer);
    await this.#running;
  }

  async #run(): Promise<void> {
    let beganAt = 0;
    do {
      this.#rerun = false;
      beganAt = this.#runtime.now();
      await this.#renew();
    } while (this.#rerun && !this.#closed);
    this.#running = null;
    this.#schedule(this.#runtime.now() - beganAt);
  }

  /** Jitter: relays that started, or lost the coordinator, at the same time do not stay in step. */
  #schedule(tookMs: number): void {
    if (this.#closed) return;
    const pauseMs = this.#intervalMs * (0.8 + this.#runtime.random() / 5) - tookMs;
    this.#timer = this.#runtime.setTimeout(() => this.runNow(), Math.max(0, pauseMs));
  }
}

/** One token that this relay leases, or is releasing. */
class Lease {
  readonly token: Token;
  readonly key: string;
  /** A client waits under the token here. */
  desired = true;
  /** The coordinator has confirmed that this relay is the owner. */
  acquired = false;
  /** A command for this lease is awaiting its reply. The next command waits: there is one at a time. */
  inFlight = false;
  /** The owner whose lease is to be taken over. */
  previousOwner: Owner | null = null;
  /** A caller was told that this relay is the owner: it must be notified if another relay turns out to be. */
  provisional = false;
  /** Null if empty, to save memory: there are many leases, and few await a reply. */
  #waiters: Set<(owner: Owner | null) => void> | null = null;

  constructor(token: Token, key: string) {
    this.token = token;
    this.key = key;
  }

  /** No client waits under the token here any more, and no caller needs the result. */
  release(): void {
    this.desired = false;
    this.provisional = false;
  }

  /** This relay is the owner, for now. */
  acquireProvisionally(): null {
    this.provisional = true;
    return null;
  }

  /**
   * Waits for the coordinator's reply, for at most `timeoutMs`.
   *
   * @param late called after that time
   * @returns the owner of the token; null: this relay, provisionally if the reply is late
   */
  awaitAnswer(runtime: Runtime, timeoutMs: number, late: () => void): Promise<Owner | null> {
    return new Promise((resolve) => {
      const answer = (owner: Owner | null): void => {
        clearTimer(timer);
        resolve(owner);
      };
      const timer = runtime.setTimeout(() => {
        this.#waiters?.delete(answer);
        resolve(this.acquireProvisionally());
        late();
      }, timeoutMs);
      this.#waiters ??= new Set();
      this.#waiters.add(answer);
    });
  }

  /** Resolves all waiting calls. */
  settle(owner: Owner | null): void {
    const waiting = this.#waiters;
    if (waiting === null) return;
    this.#waiters = null;
    if (owner === null && waiting.size > 0) this.provisional = true;
    for (const answer of waiting) answer(owner);
  }
}

/** Default lease time, in milliseconds: a lease outlives a dead relay by this time. */
const LEASE_MS = 30_000;

/** Two renewals may fail before a lease expires. */
const RENEWALS_PER_LEASE = 3;

/** Limit for the time that a client waits for the coordinator, in milliseconds. */
const ANSWER_TIMEOUT_MS = 500;

/** Leases in one command. It blocks the coordinator for a millisecond or two. */
const RENEWAL_BATCH = 500;

/** Time limit for releasing all leases at the end, in milliseconds. */
const CLOSE_TIMEOUT_MS = 2000;

interface TokenLeasesEvents extends CoordinatorEvents {
  /** Another relay owns a token that was leased here: waiting clients must be forwarded to it. The lease is gone. */
  readonly onLeaseLost: (token: Token, owner: Owner) => void;
}

export interface TokenLeasesOptions {
  readonly coordinator: CoordinatorAddress;
  /** The cluster's. The same secret gives tokens the same keys. */
  readonly secret: string;
  readonly self: Owner;
  /** 30 s if it is left out. */
  readonly leaseMs?: number;
  readonly events: TokenLeasesEvents;
  /** Node.js if it is left out. */
  readonly runtime?: Runtime;
}

/** Since the start. */
interface TokenLeasesTotals {
  /** Sent to the coordinator. */
  readonly commands: number;
  /** Leases that another relay had before. */
  readonly takenOver: number;
  /** Leases reported to `onLeaseLost`. */
  readonly lost: number;
  /** Values under a key that were not written by a relay of this version. */
  readonly unreadable: number;
  /** Calls of `onSecretMismatch`. */
  readonly secretMismatches: number;
}

/**
 * The tokens that this relay owns, among the relays of a cluster.
 *
 * A token is leased from `acquire` or `takeOver` until `release`, `onLeaseLost`, or a reply that another relay owns it. Each
 * lease has at most one command in flight, and its desired state is compared again when the reply comes, so the order in
 * which clients connect and leave meanwhile does not matter. If the coordinator is down, this relay is the provisional owner.
 * When it is back, a renewal of all leases acquires those too, and finds those that another relay owns by now.
 */
export class TokenLeases {
  readonly #events: TokenLeasesEvents;
  readonly #runtime: Runtime;
  /** Of this relay. */
  readonly #address: string;
  readonly #keys: LeaseKeys;
  readonly #coordinator: CoordinatorClient;
  readonly #store: LeaseStore;
  readonly #renewalLoop: RenewalLoop;
  readonly #leases = new Map<Token, Lease>();
  #closed = false;
  #acquired = 0;
  #lost = 0;
  #unreadable = 0;
  #secretMismatches = 0;

  /** Connects in the background, and reconnects when needed. */
  constructor(options: TokenLeasesOptions) {
    const { coordinator, secret, self, leaseMs = LEASE_MS, events, runtime = NODE_RUNTIME } = options;
    this.#events = events;
    this.#runtime = runtime;
    this.#address = self.address;
    this.#keys = new LeaseKeys(secret);
    const coordinatorEvents: CoordinatorEvents = {
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
    };
    this.#coordinator = new CoordinatorClient(
      coordinator,
      this.#keys.clusterId,
      SCRIPTS,
      coordinatorEvents,
      runtime,
    );
    this.#store = new LeaseStore(this.#coordinator, self, leaseMs);
    this.#renewalLoop = new RenewalLoop(leaseMs / RENEWALS_PER_LEASE, () => this.#renewAll(), runtime);
  }

  /** Whether the coordinator executes commands in time. */
  get isUp(): boolean {
    return this.#coordinator.isUp;
  }

  /** Tokens that this relay owns, or requests as soon as the coordinator is up. */
  get desired(): number {
    return this.#leases.size;
  }

  /** Of these, the ones that the coordinator has confirmed. */
  get acquired(): number {
    return this.#acquired;
  }

  get totals(): TokenLeasesTotals {
    return {
      commands: this.#coordinator.commands,
      takenOver: this.#store.takenOver,
      lost: this.#lost,
      unreadable: this.#unreadable,
      secretMismatches: this.#secretMismatches,
    };
  }

  /**
   * Leases a token for all clients that wait under it here; they need not be counted.
   *
   * Never rejects, and takes at most 500 ms. Without a reply in that time this relay is the owner for now; `onLeaseLost` is
   * called if another relay turns out to be. A token of another relay is not leased here.
   *
   * @returns the owner of the token; null: this relay
   */
  acquire(token: Token): Promise<Owner | null> {
    return this.#request(token, null);
  }

  /** The owner is unreachable: takes over its lease, unless a third relay has it by now. Otherwise like `acquire`. */
  takeOver(token: Token, owner: Owner): Promise<Owner | null> {
    return this.#request(token, owner);
  }

  /** Whether that relay owns the token; true if the coordinator is down. Never rejects. */
  isOwner(token: Token, owner: Owner): Promise<boolean> {
    return this.#store.isOwner(this.#keys.forToken(token), owner);
  }

  /** No client waits under the token here any more. Does nothing if it is not leased. */
  release(token: Token): void {
    const entry = this.#leases.get(token);
    if (entry === undefined) return;
    entry.release();
    if (!entry.inFlight) void this.#reconcile(entry);
  }

  /** Releases all leases, for at most two seconds, and disconnects. No event follows. */
  async close(): Promise<void> {
    this.#closed = true;
    const timeIsUp = Promise.withResolvers<void>();
    const timer = this.#runtime.setTimeout(timeIsUp.resolve, CLOSE_TIMEOUT_MS);
    await Promise.race([this.#releaseAll(), timeIsUp.promise]);
    clearTimer(timer);
    for (const entry of this.#leases.values()) entry.settle(null);
    this.#leases.clear();
    this.#acquired = 0;
    await this.#coordinator.close();
    await this.#renewalLoop.close();
  }

  #request(token: Token, takeFrom: Owner | null): Promise<Owner | null> {
    if (this.#closed) return Promise.resolve(null);
    let entry = this.#leases.get(token);
    if (entry === undefined) {
      entry = new Lease(token, this.#keys.forToken(token));
      this.#leases.set(token, entry);
    }
    entry.desired = true;
    if (entry.acquired && !entry.inFlight) return Promise.resolve(entry.acquireProvisionally());
    entry.previousOwner = takeFrom ?? entry.previousOwner;
    // A slow coordinator gets the command, but no caller waits for its reply.
    const owner = this.#coordinator.isUp
      ? entry.awaitAnswer(this.#runtime, ANSWER_TIMEOUT_MS, () =>
          this.#coordinator.markUnhealthy('ETIMEDOUT'),
        )
      : Promise.resolve(entry.acquireProvisionally());
    if (!entry.inFlight) void this.#reconcile(entry);
    return owner;
  }

  /** Sends commands until the lease is in its desired state, or the coordinator is down. Never rejects. */
  async #reconcile(entry: Lease): Promise<void> {
    entry.inFlight = true;
    try {
      while (entry.desired !== entry.acquired) await this.#reconcileOnce(entry);
    } catch (error) {
      // `onDown` reports the cause; any other error is a bug.
      if (!(error instanceof CoordinatorError)) throw error;
    }
    entry.inFlight = false;
    if (!entry.desired) this.#remove(entry);
    entry.settle(null);
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
    // Otherwise it would be retried immediately, forever.
    if (held.kind === 'unreadable') throw new CoordinatorError('EPROTO');
  }

  /** The new owner of a released token does not matter. */
  #applyState(entry: Lease, held: LeaseState): void {
    if (held.kind === 'unreadable') this.#unreadable += 1;
    this.#setAcquired(entry, held.kind === 'self');
    if (held.kind !== 'other') return;
    const isLost = entry.provisional;
    entry.release();
    this.#remove(entry);
    entry.settle(held.owner);
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

  #renewAll(): Promise<void> {
    return this.#inBatches([...this.#leases.values()], (entries) => this.#renew(entries));
  }

  async #renew(all: readonly Lease[]): Promise<void> {
    const entries = all.filter((entry) => this.#isRenewable(entry));
    if (this.#closed || entries.length === 0) return;
    const others = await this.#store.renew(entries.map((entry) => entry.key));
    for (const [index, entry] of entries.entries()) {
      // A lease that was released or requested again meanwhile gets a later reply.
      if (!this.#isRenewable(entry)) continue;
      const held = others.get(index) ?? { kind: 'self' };
      // The owner is an earlier process of this relay: acquiring takes its lease over. An acquired lease was taken by another
      // running relay that advertises this address.
      if (!entry.acquired && held.kind === 'other' && held.owner.address === this.#address)
        void this.#reconcile(entry);
      else this.#applyState(entry, held);
    }
  }

  #isRenewable(entry: Lease): boolean {
    return entry.desired && !entry.inFlight && this.#leases.get(entry.token) === entry;
  }

  /** Commands in flight get their replies first: the coordinator replies in order. */
  async #releaseAll(): Promise<void> {
    const all = [...this.#leases.values()];
    for (const entry of all) entry.release();
    await this.#inBatches(all, (entries) => this.#store.release(entries.map((entry) => entry.key)));
  }

  /** One batch after the other, so that a new lease waits for one of them at most. Ends early if the coordinator is down. */
  async #inBatches(
    entries: readonly Lease[],
    run: (batch: readonly Lease[]) => Promise<void>,
  ): Promise<void> {
    try {
      for (let at = 0; at < entries.length; at += RENEWAL_BATCH)
        await run(entries.slice(at, at + RENEWAL_BATCH));
    } catch (error) {
      if (!(error instanceof CoordinatorError)) throw error;
    }
  }
}
