import type { ClusterRouter, Owner } from '../cluster/router.ts';
import type { RateLimiter } from '../limits/rate-limiter.ts';
import { LinkedSet } from '../limits/linked-set.ts';
import { IdleTimeouts, TimeoutQueue } from '../limits/timeouts.ts';
import type { Token } from '../protocol/messages.ts';
import type { SessionEvent, SessionState } from '../protocol/session.ts';
import type { ClientTransport } from '../transport/client-transport.ts';
import { TaskQueue } from '../transport/task-queue.ts';
import type { AcceptedConnection, AdmissionControl, EvictionState } from './admission-control.ts';
import { ClientSession } from './client-session.ts';
import type { SessionSummary } from './client-session.ts';
import { SessionStats } from './session-stats.ts';
import type { Splice } from './splice.ts';

/** Time between checks for resets of stalled pairs, in milliseconds. */
const SWEEP_INTERVAL_MS = 15_000;

/** How long clients may take to answer a FIN once everything is delivered, in milliseconds. */
const CLOSE_GRACE_MS = 200;

/** What each session state is for eviction. A client whose owner relay has not replied waits there. */
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
  /** How long a client may wait for a partner, in milliseconds; null: forever. */
  readonly waitTimeoutMs: number | null;
  /** How long a pair may be without a byte in either direction, in milliseconds; null: forever. */
  readonly idleTimeoutMs: number | null;
  /** Null: pairs have no rate limit. */
  readonly rateLimiter: RateLimiter | null;
  /** Bytes that a pair may forward; null: no limit. */
  readonly maxPairBytes: number | null;
  readonly monotonicClock: () => number;
  readonly onSessionEnd: (summary: SessionSummary) => void;
  readonly onInternalError: (error: unknown) => void;
}

/** Counts of this moment. */
interface LiveCounts {
  /** Connections in pairs: two a pair. */
  readonly connected: number;
  /** Distinct tokens with waiting clients. */
  readonly waiting: number;
  /** Bytes relayed so far by open pairs. */
  readonly incompleteBytes: number;
  /** Bytes relayed since the start, by ended and open pairs. */
  readonly relayedBytes: number;
}

/** All client sessions of the relay: which ones wait, which are paired, and their timeouts. */
export class SessionManager {
  readonly clients: SessionStats;
  readonly admission: AdmissionControl;
  readonly monotonicClock: () => number;
  /** Called for an error in this program, which has ended one session. */
  readonly onInternalError: (error: unknown) => void;
  /** Null: the relay is not in a cluster. Set before the first client. */
  clusterRouter: ClusterRouter | null = null;
  readonly #options: SessionManagerOptions;
  readonly #sessions = new LinkedSet<ClientSession>();
  /** Closing sessions with bytes that are buffered for the client. */
  readonly #undelivered = new Set<ClientSession>();
  /** Of the relay's own probes, which are counted nowhere else. */
  readonly #probes: SessionStats;
  readonly #probeTokens = new Map<string, () => void>();
  readonly #waitTimeouts: TimeoutQueue<ClientSession>;
  readonly #timers: NodeJS.Timeout[] = [];
  /** Run after each change of a session's state. */
  readonly #stateWatchers = new Set<() => void>();
  /** Work on all sessions is done in slices. */
  readonly #tasks = new TaskQueue();

  constructor(options: SessionManagerOptions) {
    const { waitTimeoutMs, idleTimeoutMs, monotonicClock } = options;
    this.#options = options;
    this.admission = options.admission;
    this.monotonicClock = monotonicClock;
    this.#probes = new SessionStats(monotonicClock, () => undefined);
    this.clients = new SessionStats(monotonicClock, options.onSessionEnd);
    this.onInternalError = options.onInternalError;
    const onTimeout = (session: ClientSession): void => session.dispatch('timed-out');
    this.#waitTimeouts = new TimeoutQueue(waitTimeoutMs, monotonicClock, onTimeout);
    this.#timers.push(setInterval(() => this.sweep(), SWEEP_INTERVAL_MS));
    if (idleTimeoutMs === null) return;
    const idleTimeouts = new IdleTimeouts<ClientSession>(idleTimeoutMs, monotonicClock);
    const checkIdle = (): void => {
      void this.#tasks.forEach(idleTimeouts.check(this.clients.progress()), onTimeout);
    };
    this.#timers.push(setInterval(checkIdle, idleTimeouts.checkIntervalMs));
  }

  /** Open pairs. */
  get pairs(): number {
    return this.clients.pairs;
  }

  /** Bytes buffered in this process for slow clients and slow owner relays. */
  get bufferedBytes(): number {
    let bytes = this.clients.upstreamBufferedBytes();
    for (const session of this.#sessions) bytes += session.transport.bufferedBytes;
    return bytes;
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
   * Treats clients that name `token` as the relay's own probes from now on: they are not counted as clients
   * and have no record. `onArrival` is called for each.
   */
  registerProbe(token: string, onArrival: () => void): void {
    this.#probeTokens.set(token, onArrival);
  }

  /** Reverses `registerProbe`. Clients that have already named the token stay probes. */
  unregisterProbe(token: string): void {
    this.#probeTokens.delete(token);
  }

  /**
   * Returns the statistics that a session belongs to once it has named its token. Probes are exempt from all
   * limits from then on.
   */
  statsFor(token: Token, accepted: AcceptedConnection): SessionStats {
    const onArrival = this.#probeTokens.get(token);
    if (onArrival === undefined) return this.clients;
    this.admission.exempt(accepted);
    onArrival();
    return this.#probes;
  }

  /** Applies the limits to a new pair, or to a client that is forwarded. */
  onPaired(splice: Splice, session: ClientSession): void {
    if (session.accepted.isExempt) return;
    const { rateLimiter, maxPairBytes } = this.#options;
    // Without a limit, forwarding bytes costs nothing extra.
    if (rateLimiter === null && maxPairBytes === null) return;
    const onLimitReached = (): void => session.dispatch('byte-limit');
    splice.limit(rateLimiter, maxPairBytes, onLimitReached);
  }

  /** Forwards the clients that wait for a token here, because another relay owns it. */
  redirectWaiting(token: Token, owner: Owner): void {
    for (const session of this.clients.rendezvous.waitersOf(token)) session.redirect(owner);
  }

  /** Starts the session of a new client. */
  accept(transport: ClientTransport, accepted: AcceptedConnection): void {
    const session = new ClientSession(transport, accepted, this);
    this.#sessions.add(session);
    this.admission.promote(accepted);
    transport.start(session);
  }

  /** Closes all waiting clients, because no pair may start in this period. */
  closeWaiting(): void {
    this.#notifyAll({ waiting: 'over-quota', 'connecting-upstream': 'over-quota' });
  }

  /** Closes all pairs, because no more bytes may be forwarded. */
  closePairs(): void {
    this.#notifyAll({ paired: 'byte-limit', forwarding: 'byte-limit' });
  }

  /**
   * Ends a share of the stalled pairs, and frees the kernel's buffers of both clients at once. The pair that has been
   * stalled for the longest is first. Pairs that have been stalled for less than `minStallMs` are not ended. Resolves
   * with the number of pairs that were ended, and clients whose pair had ended before.
   */
  async endStalled(share: number, minStallMs: number): Promise<number> {
    const stalled: { since: number; session: ClientSession }[] = [];
    for (const session of this.#sessions) {
      const since = session.stalledSince;
      if (since !== null) stalled.push({ since, session });
    }
    const latest = this.monotonicClock() - minStallMs;
    const chosen = stalled
      .filter(({ since }) => since <= latest)
      .toSorted((one, other) => one.since - other.since)
      .slice(0, Math.ceil(share * stalled.length));
    let ended = 0;
    await this.#tasks.forEach(chosen, ({ session }) => {
      // It may have resumed or closed meanwhile.
      if (session.stalledSince === null) return;
      ended += 1;
      session.dispatch('stalled');
    });
    return ended;
  }

  /** Checks for resets that are hidden while a pair is stalled. */
  sweep(): void {
    void this.#tasks.forEach(this.clients.splices(), (splice) => splice.sweep());
  }

  /** Resolves when no client waits for a partner, after `timeoutMs`, or on `abort`. */
  untilNoneWaiting(timeoutMs: number, abort: AbortSignal): Promise<void> {
    return this.#until(() => this.clients.rendezvous.waitingTokens === 0, timeoutMs, abort);
  }

  /**
   * Closes all sessions except pairs. Waits until the pairs have ended and everything buffered is delivered,
   * for at most `timeoutMs`; `abort` ends the wait.
   */
  async drain(timeoutMs: number, abort: AbortSignal): Promise<void> {
    await this.#tasks.forEach(this.admission.pending, (accepted) => this.admission.closePending(accepted));
    await this.#tasks.forEach([...this.#sessions], (session) => session.onDrain());
    const isDelivered = (): boolean =>
      this.pairs === 0 &&
      this.clients.forwardedClients === 0 &&
      this.#undelivered.size === 0 &&
      this.clients.undeliveredLinks === 0;
    await this.#until(isDelivered, timeoutMs, abort);
    await this.#until(() => this.#sessions.size === 0, CLOSE_GRACE_MS, abort);
  }

  /** Aborts all sessions. Their records are written before this returns. */
  close(): void {
    for (const timer of this.#timers) clearInterval(timer);
    for (const session of Array.from(this.#sessions)) session.dispatch('aborted');
    this.admission.close();
    this.#waitTimeouts.close();
    this.#options.rateLimiter?.close();
  }

  /** Called when a session has changed its state and all effects have run. */
  onStateChange(session: ClientSession, to: SessionState): void {
    session.waitTimeout?.stop();
    session.waitTimeout = to === 'waiting' ? this.#waitTimeouts.start(session) : null;
    // Where no client waits for the token any more, another relay can own it.
    const { token } = session;
    if (this.clusterRouter !== null && token !== null && !this.clients.rendezvous.hasWaiters(token))
      this.clusterRouter.release(token);
    if (to === 'closing' && session.transport.bufferedBytes > 0) this.#undelivered.add(session);
    if (to === 'closed') {
      this.#sessions.delete(session);
      this.#undelivered.delete(session);
      this.admission.release(session.accepted);
    } else {
      this.admission.handshakeDone(session.accepted);
      const waiting = to === 'waiting' ? this.clients.rendezvous.waitingClients : null;
      this.admission.setEvictionState(session.accepted, EVICTION_STATES[to], waiting);
    }
    this.#notifyWatchers();
  }

  /** A closing session has handed over all of its bytes. */
  onDelivered(session: ClientSession): void {
    this.#undelivered.delete(session);
    this.#notifyWatchers();
  }

  /** A link that is closing has handed over all of its bytes, or has closed. */
  onLinkDelivered(link: ClientTransport): void {
    this.clients.linkDelivered(link);
    this.#notifyWatchers();
  }

  /** For tests: compares all counts with what they count. Throws if they disagree. */
  checkConsistency(): void {
    const allStats = [this.clients, this.#probes];
    const sum = (numbers: number[]): number => numbers.reduce((total, number) => total + number, 0);
    const states = [...this.#sessions].map((session) => session.state);
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

  #notifyWatchers(): void {
    for (const watcher of this.#stateWatchers) watcher();
  }

  #notifyAll(events: Readonly<Partial<Record<SessionState, SessionEvent>>>): void {
    void this.#tasks.forEach([...this.#sessions], (session) => {
      // Its state may have changed, for example because its partner has closed.
      const event = events[session.state];
      if (event !== undefined) session.dispatch(event);
    });
  }

  /**
   * Resolves when `isReached` is true, after `timeoutMs`, or on `abort`. It is checked now and after each
   * state change.
   */
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
