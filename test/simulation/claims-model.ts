import type { Token } from '../../src/protocol/wire.ts';
import type { Clock } from './clock.ts';
import { ANSWER_MS, BATCH, LEASE_MS, LEAST_PAUSE, RENEWALS_IN_A_LEASE } from './constants.ts';
import type { CoordinatorModel } from './coordinator-model.ts';
import type { Random } from './random.ts';
import { RelayConnection } from './relay-connection.ts';

interface Entry {
  readonly token: Token;
  wanted: boolean;
  held: boolean;
  busy: boolean;
  takeFrom: number | null;
}

export interface ClaimsModelOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly coordinator: CoordinatorModel;
  readonly oneWayMs: () => number;
  /** This relay's number. */
  readonly id: number;
  /** What waits for `token` here has to go to `owner`. */
  readonly theirs: (token: Token, owner: number) => void;
}

/** What src/cluster/claims.ts does: one command at a time for each token, and renewals of all in batches. */
export class ClaimsModel {
  readonly #options: ClaimsModelOptions;
  readonly #connection: RelayConnection;
  readonly #entries = new Map<Token, Entry>();
  #round: 'none' | 'running' | 'again' = 'none';
  /** The round that is planned; another number makes it void. */
  #planned = 0;
  #late = 0;
  #rounds = 0;
  #isDead = false;

  constructor(options: ClaimsModelOptions) {
    this.#options = options;
    const { clock, random, coordinator, oneWayMs } = options;
    this.#connection = new RelayConnection(clock, random, coordinator, oneWayMs, () => this.#renewNow());
    this.#planRound(random.between(0, LEASE_MS / RENEWALS_IN_A_LEASE));
  }

  /** Answers to clients that took more than 500 ms. */
  get late(): number {
    return this.#late;
  }

  /** Renewals of everything that have been begun. */
  get rounds(): number {
    return this.#rounds;
  }

  /** Tells from now on whether one of the claims that the coordinator does not know of now is still wanted in vain. */
  unclaimedNow(): () => boolean {
    const { coordinator, id } = this.#options;
    const now = [...this.#entries.values()].filter(({ token }) => !coordinator.isOwner(token, id));
    return () => now.some((entry) => this.#isQuiet(entry) && !coordinator.isOwner(entry.token, id));
  }

  /** The relay is gone. */
  stop(): void {
    this.#isDead = true;
    this.#entries.clear();
    this.#connection.stop();
  }

  /** Has a claim from before the beginning. */
  adopt(token: Token): void {
    this.#entries.set(token, { token, wanted: true, held: true, busy: false, takeFrom: null });
    this.#options.coordinator.claim(token, this.#options.id, null);
  }

  want(token: Token, takeFrom: number | null): void {
    let entry = this.#entries.get(token);
    if (entry === undefined) {
      entry = { token, wanted: true, held: false, busy: false, takeFrom };
      this.#entries.set(token, entry);
    }
    entry.wanted = true;
    entry.takeFrom = takeFrom ?? entry.takeFrom;
    if (!entry.busy) this.#work(entry);
  }

  release(token: Token): void {
    const entry = this.#entries.get(token);
    if (entry === undefined) return;
    entry.wanted = false;
    if (!entry.busy) this.#work(entry);
  }

  #work(entry: Entry): void {
    entry.busy = entry.wanted !== entry.held && this.#connection.isConnected;
    if (entry.busy) this.#step(entry);
    else if (!entry.wanted) this.#forget(entry);
  }

  #step(entry: Entry): void {
    const { coordinator, id } = this.#options;
    const { token, takeFrom, wanted } = entry;
    entry.takeFrom = null;
    const isAwaited = wanted && this.#connection.isUp;
    this.#connection.ask({
      serviceMs: coordinator.service.commandMs,
      do: () => {
        if (wanted) return coordinator.claim(token, id, takeFrom);
        coordinator.release(token, id);
        return null;
      },
      answered: (owner, tookMs) => {
        if (this.#isDead) return;
        if (isAwaited && tookMs > ANSWER_MS) this.#tooLate();
        entry.held = owner === id;
        if (owner !== null && owner !== id) this.#learnTheirs(entry, owner);
        else this.#work(entry);
      },
      failed: () => {
        entry.busy = false;
        if (!entry.wanted) this.#forget(entry);
      },
    });
  }

  /** It would be found out when the time is over, which is a little earlier. */
  #tooLate(): void {
    this.#late += 1;
    this.#connection.suspect();
  }

  #learnTheirs(entry: Entry, owner: number): void {
    const { wanted } = entry;
    entry.wanted = false;
    entry.busy = false;
    this.#forget(entry);
    if (wanted) this.#options.theirs(entry.token, owner);
  }

  #forget(entry: Entry): void {
    if (this.#entries.get(entry.token) === entry) this.#entries.delete(entry.token);
  }

  #planRound(delayMs: number): void {
    this.#planned += 1;
    const planned = this.#planned;
    this.#options.clock.after(delayMs, () => {
      if (planned === this.#planned) this.#renewNow();
    });
  }

  #renewNow(): void {
    if (this.#isDead) return;
    if (this.#round === 'none') this.#runRound();
    else this.#round = 'again';
  }

  #runRound(): void {
    this.#planned += 1;
    this.#rounds += 1;
    this.#round = 'running';
    this.#renewBatch([...this.#entries.values()], 0);
  }

  #renewBatch(all: readonly Entry[], at: number): void {
    if (this.#isDead) return;
    const quiet = all.slice(at, at + BATCH).filter((entry) => this.#isQuiet(entry));
    if (at >= all.length) this.#endRound();
    else if (quiet.length === 0) this.#renewBatch(all, at + BATCH);
    else this.#askToRenew(quiet, () => this.#renewBatch(all, at + BATCH));
  }

  #askToRenew(quiet: readonly Entry[], next: () => void): void {
    const { coordinator, id } = this.#options;
    const { commandMs, batchMs } = coordinator.service;
    this.#connection.ask({
      serviceMs: Math.max(commandMs, (batchMs * quiet.length) / BATCH),
      do: () => quiet.map(({ token }) => coordinator.claim(token, id, null)),
      answered: (owners) => {
        if (this.#isDead) return;
        for (const [index, entry] of quiet.entries()) {
          const owner = owners[index];
          if (owner === undefined || !this.#isQuiet(entry)) continue;
          entry.held = owner === id;
          if (owner !== id) this.#learnTheirs(entry, owner);
        }
        next();
      },
      failed: () => this.#endRound(),
    });
  }

  #endRound(): void {
    const isAgain = this.#round === 'again';
    this.#round = 'none';
    if (isAgain && this.#connection.isConnected) this.#runRound();
    else this.#planRound((LEASE_MS / RENEWALS_IN_A_LEASE) * this.#options.random.between(LEAST_PAUSE, 1));
  }

  #isQuiet(entry: Entry): boolean {
    return entry.wanted && !entry.busy && this.#entries.get(entry.token) === entry;
  }
}
