import type { Token } from '../../src/protocol/messages.ts';
import type { Clock } from './clock.ts';
import { ANSWER_TIMEOUT_MS, LEASE_MS, MIN_PAUSE, RENEWALS_PER_LEASE, RENEWAL_BATCH } from './constants.ts';
import { CoordinatorClientModel } from './coordinator-client-model.ts';
import type { CoordinatorModel } from './coordinator-model.ts';
import type { Random } from './random.ts';

interface LeaseModel {
  readonly token: Token;
  desired: boolean;
  acquired: boolean;
  inFlight: boolean;
  previousOwner: number | null;
}

export interface TokenLeasesModelOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly coordinator: CoordinatorModel;
  readonly oneWayMs: () => number;
  /** This relay's number. */
  readonly id: number;
  /** Clients that wait for `token` here must be forwarded to `owner`. */
  readonly onLeaseLost: (token: Token, owner: number) => void;
}

/**
 * Models src/cluster/token-leases.ts: one command at a time for each token, and renewals of all leases in
 * batches.
 */
export class TokenLeasesModel {
  readonly #options: TokenLeasesModelOptions;
  readonly #connection: CoordinatorClientModel;
  readonly #leases = new Map<Token, LeaseModel>();
  #renewal: 'none' | 'running' | 'rerun' = 'none';
  /** Number of the planned renewal. A new number cancels it. */
  #planned = 0;
  #lateAnswers = 0;
  #renewals = 0;
  #isDead = false;

  constructor(options: TokenLeasesModelOptions) {
    this.#options = options;
    const { clock, random, coordinator, oneWayMs } = options;
    this.#connection = new CoordinatorClientModel(clock, random, coordinator, oneWayMs, () =>
      this.#renewNow(),
    );
    this.#scheduleRenewal(random.between(0, LEASE_MS / RENEWALS_PER_LEASE));
  }

  /** Replies that took more than 500 ms while a client waited. */
  get lateAnswers(): number {
    return this.#lateAnswers;
  }

  /** Renewals of all leases that were started. */
  get renewals(): number {
    return this.#renewals;
  }

  /**
   * Returns a function that tells whether any lease that is missing at the coordinator now is still desired
   * and not acquired.
   */
  trackUnacquired(): () => boolean {
    const { coordinator, id } = this.#options;
    const now = [...this.#leases.values()].filter(({ token }) => !coordinator.isOwner(token, id));
    return () => now.some((entry) => this.#isRenewable(entry) && !coordinator.isOwner(entry.token, id));
  }

  /** Called when the relay has died. */
  stop(): void {
    this.#isDead = true;
    this.#leases.clear();
    this.#connection.stop();
  }

  /** Adds a lease from before the start. */
  adopt(token: Token): void {
    this.#leases.set(token, { token, desired: true, acquired: true, inFlight: false, previousOwner: null });
    this.#options.coordinator.acquire(token, this.#options.id, null);
  }

  request(token: Token, previousOwner: number | null): void {
    let entry = this.#leases.get(token);
    if (entry === undefined) {
      entry = { token, desired: true, acquired: false, inFlight: false, previousOwner };
      this.#leases.set(token, entry);
    }
    entry.desired = true;
    entry.previousOwner = previousOwner ?? entry.previousOwner;
    if (!entry.inFlight) this.#reconcile(entry);
  }

  release(token: Token): void {
    const entry = this.#leases.get(token);
    if (entry === undefined) return;
    entry.desired = false;
    if (!entry.inFlight) this.#reconcile(entry);
  }

  #reconcile(entry: LeaseModel): void {
    entry.inFlight = entry.desired !== entry.acquired && this.#connection.isConnected;
    if (entry.inFlight) this.#reconcileOnce(entry);
    else if (!entry.desired) this.#remove(entry);
  }

  #reconcileOnce(entry: LeaseModel): void {
    const { coordinator, id } = this.#options;
    const { token, previousOwner, desired: isDesired } = entry;
    entry.previousOwner = null;
    const isAwaited = isDesired && this.#connection.isUp;
    this.#connection.request({
      serviceMs: coordinator.service.commandMs,
      do: () => {
        if (isDesired) return coordinator.acquire(token, id, previousOwner);
        coordinator.release(token, id);
        return null;
      },
      answered: (owner, tookMs) => {
        if (this.#isDead) return;
        if (isAwaited && tookMs > ANSWER_TIMEOUT_MS) this.#onLateAnswer();
        entry.acquired = owner === id;
        if (owner !== null && owner !== id) this.#onLeaseLost(entry, owner);
        else this.#reconcile(entry);
      },
      failed: () => {
        entry.inFlight = false;
        if (!entry.desired) this.#remove(entry);
      },
    });
  }

  /** The real relay notices it a little earlier, when its timer ends. */
  #onLateAnswer(): void {
    this.#lateAnswers += 1;
    this.#connection.markUnhealthy();
  }

  #onLeaseLost(entry: LeaseModel, owner: number): void {
    const { desired: isDesired } = entry;
    entry.desired = false;
    entry.inFlight = false;
    this.#remove(entry);
    if (isDesired) this.#options.onLeaseLost(entry.token, owner);
  }

  #remove(entry: LeaseModel): void {
    if (this.#leases.get(entry.token) === entry) this.#leases.delete(entry.token);
  }

  #scheduleRenewal(delayMs: number): void {
    this.#planned += 1;
    const renewal = this.#planned;
    this.#options.clock.after(delayMs, () => {
      if (renewal === this.#planned) this.#renewNow();
    });
  }

  #renewNow(): void {
    if (this.#isDead) return;
    if (this.#renewal === 'none') this.#runRenewal();
    else this.#renewal = 'rerun';
  }

  #runRenewal(): void {
    this.#planned += 1;
    this.#renewals += 1;
    this.#renewal = 'running';
    this.#renewBatch([...this.#leases.values()], 0);
  }

  #renewBatch(leases: readonly LeaseModel[], at: number): void {
    if (this.#isDead) return;
    const renewable = leases.slice(at, at + RENEWAL_BATCH).filter((entry) => this.#isRenewable(entry));
    if (at >= leases.length) this.#endRenewal();
    else if (renewable.length === 0) this.#renewBatch(leases, at + RENEWAL_BATCH);
    else this.#requestRenewal(renewable, () => this.#renewBatch(leases, at + RENEWAL_BATCH));
  }

  #requestRenewal(renewable: readonly LeaseModel[], next: () => void): void {
    const { coordinator, id } = this.#options;
    const { commandMs, batchMs } = coordinator.service;
    this.#connection.request({
      serviceMs: Math.max(commandMs, (batchMs * renewable.length) / RENEWAL_BATCH),
      do: () => renewable.map(({ token }) => coordinator.acquire(token, id, null)),
      answered: (owners) => {
        if (this.#isDead) return;
        for (const [index, entry] of renewable.entries()) {
          const owner = owners[index];
          if (owner === undefined || !this.#isRenewable(entry)) continue;
          entry.acquired = owner === id;
          if (owner !== id) this.#onLeaseLost(entry, owner);
        }
        next();
      },
      failed: () => this.#endRenewal(),
    });
  }

  #endRenewal(): void {
    const isRerun = this.#renewal === 'rerun';
    this.#renewal = 'none';
    if (isRerun && this.#connection.isConnected) this.#runRenewal();
    else this.#scheduleRenewal((LEASE_MS / RENEWALS_PER_LEASE) * this.#options.random.between(MIN_PAUSE, 1));
  }

  #isRenewable(entry: LeaseModel): boolean {
    return entry.desired && !entry.inFlight && this.#leases.get(entry.token) === entry;
  }
}
