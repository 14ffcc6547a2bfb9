import type { ClusterRouter, Owner } from '../cluster/router.ts';
import { IdleTimeouts } from '../limits/idle-timeouts.ts';
import type { RateLimiter } from '../limits/rate-limiter.ts';
import { TimeoutQueue } from '../limits/timeout-queue.ts';
import type { Side, Token } from '../protocol/messages.ts';
import type { Rejection, SessionEvent, SessionFailure, SessionState } from '../protocol/session.ts';
import type { ClientTransport } from '../transport/client-transport.ts';
import { TaskQueue } from '../transport/task-queue.ts';
import type { AcceptedConnection, AdmissionControl, EvictionState } from './admission-control.ts';
import { ClientSession } from './client-session.ts';
import type { SessionContext, SessionStatsSink, SessionSummary } from './client-session.ts';
import { SessionStats } from './session-stats.ts';
import { createByteMeter } from './splice.ts';
import type { Splice } from './splice.ts';

/** Time between two looks after stalled pairs, in milliseconds. */
const SWEEP_INTERVAL_MS = 15_000;

/** How long clients are given to answer a FIN once nothing is left to deliver, in milliseconds. */
const CLOSE_GRACE_MS = 200;

/** Time between two checks whether clients of ended pairs have been sent everything, in milliseconds. */
const DELIVERY_POLL_MS = 20;

/** What each state is for eviction. A client that another relay is asked about waits there. */
const EVICTION_STATES: Readonly<Record<Exclude<SessionState, 'closed'>, EvictionState>> = {
  handshake: 'handshake',
  waiting: 'waiting',
  'connecting-upstream': 'waiting',
  paired: 'paired',
  forwarding: 'paired',
  closing: 'closing',
};

export interface SessionManagerOptions {
  readonly admission: AdmissionControl;
  /** How long a client may wait, in milliseconds; null: for as long as it likes. */
  readonly waitTimeoutMs: number | null;
  /** The same for a pair without a byte in either direction. */
  readonly idleTimeoutMs: number | null;
  /** Null: pairs go as fast as they can. */
  readonly rateLimiter: RateLimiter | null;
  /** What a pair may move, in bytes; null: as much as it likes. */
  readonly maxPairBytes: number | null;
  readonly monotonicClock: () => number;
  readonly onSessionEnd: (summary: SessionSummary) => void;
  readonly onInternalError: (error: unknown) => void;
}

/** Who is here now. */
export interface LiveCounts {
  /** Connections in pairs: two a pair. */
  readonly connected: number;
  /** Distinct tokens somebody waits under. */
  readonly waiting: number;
  /** Bytes relayed so far by pairs that have not ended. */
  readonly incompleteBytes: number;
  /** Bytes relayed since the start, by pairs that have ended and by pairs that run. */
  readonly relayedBytes: number;
}

/** Every connection there is, who waits for whom, and which pairs are running. */
export class SessionManager implements SessionContext {
  readonly clients: SessionStats;
  readonly monotonicClock: () => number;
  readonly onInternalError: (error: unknown) => void;
  /** Other relays; null: this one is alone. Set before anybody comes. */
  clusterRouter: ClusterRouter | null = null;
  readonly #options: SessionManagerOptions;
  readonly #admission: AdmissionControl;
  readonly #sessions = new Set<ClientSession>();
  /** The relay's own test clients leave no trace. */
  readonly #probes: SessionStats;
  readonly #probeTokens = new Map<string, () => void>();
  readonly #waitTimeouts: TimeoutQueue<ClientSession>;
  readonly #timers: NodeJS.Timeout[] = [];
  /** Run after each change of a session's state. */
  readonly #stateWatchers = new Set<() => void>();
  /** What concerns all connections is done in slices. */
  readonly #tasks = new TaskQueue();

  constructor(options: SessionManagerOptions) {
    const { waitTimeoutMs: waitMs, idleTimeoutMs: idleMs, monotonicClock } = options;
    this.#options = options;
    this.#admission = options.admission;
    this.monotonicClock = monotonicClock;
    this.#probes = new SessionStats(monotonicClock, () => undefined);
    this.clients = new SessionStats(monotonicClock, options.onSessionEnd);
    this.onInternalError = options.onInternalError;
    const timedOut = (connection: ClientSession): void => connection.dispatch('timed-out');
    this.#waitTimeouts = new TimeoutQueue(waitMs, monotonicClock, timedOut);
    this.#timers.push(setInterval(() => this.sweep(), SWEEP_INTERVAL_MS));
    if (idleMs !== null) this.#startIdleTimeouts(new IdleTimeouts(idleMs, monotonicClock), timedOut);
  }

  /** Pairs that are running. */
  get pairs(): number {
    return this.clients.pairs;
  }

  /** Bytes held in this process for clients, and for relays that own tokens of clients, that do not keep up. */
  get bufferedBytes(): number {
    let held = this.clients.upstreamBufferedBytes();
    for (const connection of this.#sessions) held += connection.bufferedBytes;
    return held;
  }

  liveCounts(): LiveCounts {
    const { pairs, rendezvous } = this.clients;
    return {
      connected: pairs * 2,
      waiting: rendezvous.waitingTokens,
      incompleteBytes: this.clients.incompleteBytes(),
      relayedBytes: this.clients.relayedBytes(),
    };
  }

  /**
   * Connections that name `token` are the relay's own tests from now on: they are no clients, and leave no
   * record. `arrived` is called for each.
   */
  registerProbe(token: string, arrived: () => void): void {
    this.#probeTokens.set(token, arrived);
  }

  /** Ends what `expectTester` began; who has named the token already stays a tester. */
  unregisterProbe(token: string): void {
    this.#probeTokens.delete(token);
  }

  statsFor(token: Token): SessionStats {
    const arrived = this.#probeTokens.get(token);
    if (arrived === undefined) return this.clients;
    arrived();
    return this.#probes;
  }

  onHandshakeFailure(accepted: AcceptedConnection, stats: SessionStatsSink, failure: SessionFailure): void {
    if (stats !== this.#probes) this.#admission.countHandshakeFailure(accepted, failure);
  }

  admit(
    accepted: AcceptedConnection,
    stats: SessionStatsSink,
    token: Token,
    side: Side | null,
  ): Rejection | null {
    const { rendezvous } = stats;
    if (stats === this.#probes) {
      this.#admission.exempt(accepted);
      return null;
    }
    const hasPartner = rendezvous.hasPartner(token, side);
    return this.#admission.admit(accepted, { hasPartner, waiting: rendezvous.waitingClients });
  }

  onPaired(stats: SessionStatsSink, splice: Splice, connection: ClientSession): void {
    if (stats === this.#probes) return;
    const { rateLimiter, maxPairBytes: pairBytes } = this.#options;
    const usedUp = (): void => connection.dispatch('byte-limit');
    const byteMeter = createByteMeter(splice, rateLimiter, pairBytes, usedUp);
    if (byteMeter !== null) splice.setMeter(byteMeter);
  }

  /** A token that was thought to be ours is another relay's: whoever waits for it here goes there. */
  redirectWaiting(token: Token, owner: Owner): void {
    for (const connection of this.clients.rendezvous.waitersOf(token)) connection.redirect(owner);
  }

  /** Takes in a client. */
  accept(transport: ClientTransport, accepted: AcceptedConnection): void {
    const connection = new ClientSession(transport, accepted, this);
    this.#sessions.add(connection);
    this.#admission.promote(accepted);
    connection.start();
  }

  /** Ends every wait: no pair may begin any more in this period. */
  closeWaiting(): void {
    this.#notifyAll({ waiting: 'over-quota', 'connecting-upstream': 'over-quota' });
  }

  /** Ends every pair, since no more bytes may be moved. */
  closePairs(): void {
    this.#notifyAll({ paired: 'byte-limit', forwarding: 'byte-limit' });
  }

  /** Looks for resets that stalled pairs hide. */
  sweep(): void {
    this.clients.sweepLinks();
    void this.#tasks.forEach(this.clients.splices(), (splice) => splice.sweep());
  }

  /** Resolves when no client waits for a partner, after `timeoutMs`, or on `abort`. */
  untilNoneWaiting(timeoutMs: number, abort: AbortSignal): Promise<void> {
    return this.#until(() => this.clients.rendezvous.waitingTokens === 0, timeoutMs, abort);
  }

  /**
   * Closes all connections except pairs. Then waits until all pairs have ended and everything buffered for their clients is
   * delivered. Resolves after `timeoutMs` or on `abort` at the latest.
   */
  async drain(timeoutMs: number, abort: AbortSignal): Promise<void> {
    await this.#tasks.forEach(this.#admission.pending, (accepted) => this.#admission.closePending(accepted));
    await this.#tasks.forEach([...this.#sessions], (connection) => connection.onDrain());
    const deadline = this.monotonicClock() + timeoutMs;
    await this.#until(() => this.pairs === 0 && this.clients.forwardedClients === 0, timeoutMs, abort);
    // A transport that closes does not report its deliveries.
    while (this.bufferedBytes > 0 && this.monotonicClock() < deadline && !abort.aborted)
      await delay(DELIVERY_POLL_MS);
    await this.#until(() => this.#sessions.size === 0, CLOSE_GRACE_MS, abort);
  }

  /** Ends every connection now. Their records are written before this returns. */
  close(): void {
    for (const timer of this.#timers) clearInterval(timer);
    for (const connection of this.#sessions) connection.dispatch('aborted');
    this.#admission.close();
    this.#waitTimeouts.close();
    this.#options.rateLimiter?.close();
  }

  onStateChange(connection: ClientSession, to: SessionState): void {
    if (to === 'waiting') this.#waitTimeouts.start(connection);
    else this.#waitTimeouts.stop(connection);
    this.#releaseToken(connection);
    if (to === 'closed') {
      this.#sessions.delete(connection);
      this.#admission.release(connection.accepted);
    } else {
      this.#admission.handshakeDone(connection.accepted);
      const waiting = to === 'waiting' ? this.clients.rendezvous.waitingClients : null;
      this.#admission.setEvictionState(connection.accepted, EVICTION_STATES[to], waiting);
    }
    for (const watcher of this.#stateWatchers) watcher();
  }

  /** Compares every count with what it counts. For tests. Throws where they disagree. */
  checkConsistency(): void {
    const allStats = [this.clients, this.#probes];
    const sum = (numbers: number[]): number => numbers.reduce((total, number) => total + number, 0);
    const states = [...this.#sessions].map((connection) => connection.state);
    const count = (state: SessionState): number => states.filter((other) => other === state).length;
    this.#probes.checkConsistency(0);
    this.clients.checkConsistency(count('connecting-upstream'));
    if (count('forwarding') !== this.clients.forwardedClients)
      throw new Error('session manager: forwarding sessions and forwarded clients disagree');
    if (count('paired') !== 2 * sum(allStats.map(({ pairs }) => pairs)))
      throw new Error('session manager: pairs and paired sessions disagree');
    if (count('waiting') !== sum(allStats.map(({ rendezvous }) => rendezvous.waitingClients)))
      throw new Error('session manager: waiting sessions and rendezvous disagree');
    if (count('waiting') < this.#waitTimeouts.size)
      throw new Error('session manager: a wait timeout outlives its session');
    if (count('closed') > 0) throw new Error('session manager: a closed session was not removed');
  }

  /** Other relays may have it, when nobody waits for it here any more. */
  #releaseToken({ token }: ClientSession): void {
    if (this.clusterRouter === null || token === null) return;
    if (!this.clients.rendezvous.hasWaiters(token)) this.clusterRouter.release(token);
  }

  #notifyAll(events: Readonly<Partial<Record<SessionState, SessionEvent>>>): void {
    void this.#tasks.forEach([...this.#sessions], (connection) => {
      // Its state may have changed since, by what happened to its partner, too.
      const event = events[connection.state];
      if (event !== undefined) connection.dispatch(event);
    });
  }

  #startIdleTimeouts(watch: IdleTimeouts<ClientSession>, idle: (connection: ClientSession) => void): void {
    const look = (): void => {
      void this.#tasks.forEach(watch.check(this.clients.progress()), idle);
    };
    this.#timers.push(setInterval(look, watch.checkIntervalMs));
  }

  /** Resolves when `isReached` is true, after `timeoutMs`, or on `abort`. It is checked now and after each state change. */
  #until(isReached: () => boolean, timeoutMs: number, abort: AbortSignal): Promise<void> {
    if (isReached() || abort.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        abort.removeEventListener('abort', done);
        this.#stateWatchers.delete(check);
        resolve();
      };
      const check = (): void => {
        if (isReached()) done();
      };
      const timer = setTimeout(done, timeoutMs);
      abort.addEventListener('abort', done);
      this.#stateWatchers.add(check);
    });
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
