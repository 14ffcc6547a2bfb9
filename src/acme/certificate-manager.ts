import { X509Certificate, generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';
import type { AcmeConfig } from '../config/acme-config.ts';
import { errorCode } from '../process/errors.ts';
import type { AcmeChallenges } from '../transport/acme-challenges.ts';
import { createContext } from '../transport/tls-credentials.ts';
import type { ReloadableCredentials } from '../transport/tls-credentials.ts';
import type { Challenge, ChallengeType, IssuedCertificate, OrderFailure } from './order-messages.ts';
import { OrderError } from './order-runner.ts';
import type { runOrder } from './order-runner.ts';
import { adviceFor, nextChallengeType, nextOrderAt } from './retry-policy.ts';
import type { OrderHistory, StateDirectory } from './state-directory.ts';

/** Share of a certificate's lifetime that is left when it is renewed. */
const RENEWAL_SHARE = 1 / 3;

/** Random share of the lifetime by which it is renewed earlier, so that many relays do not order together. */
const RENEWAL_JITTER = 1 / 30;

/** Longest time between two looks at the clock, in milliseconds: the clock may be set, and timers end at 24 days. */
const MAX_TIMER_MS = 3_600_000;

/** Time until another relay's order is checked again, in milliseconds. */
const LOCKED_RETRY_MS = 30_000;

/** Time until the next order if the relay stops during one, in milliseconds. */
const RESTART_PAUSE_MS = 60_000;

const generateKey = promisify(generateKeyPair);

/** Why an order failed, and what follows. */
export interface FailedOrder {
  readonly challenge: ChallengeType;
  /** Failed orders in a row, with this one. */
  readonly failures: number;
  readonly failure: OrderFailure;
  readonly advice: string;
  /** Time of the next order. */
  readonly retryAt: Date;
}

/** Receives what operators should know. */
export interface CertificateObserver {
  onIssued(kind: 'obtained' | 'renewed', expiresAt: Date): void;
  onFailed(order: FailedOrder): void;
  /** Orders after a failure. */
  onRetry(failures: number, challenge: ChallengeType): void;
  /** Another relay with the same state directory orders. */
  onLocked(): void;
}

interface ManagerOptions {
  readonly config: AcmeConfig;
  readonly state: StateDirectory;
  readonly credentials: ReloadableCredentials;
  readonly challenges: AcmeChallenges;
  /** A listener without TLS has port 80. */
  readonly hasHttpPort: boolean;
  readonly order: typeof runOrder;
  readonly observer: CertificateObserver;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  /** From 0 to 1. */
  readonly random: () => number;
}

/** Gets a certificate by ACME when there is none, and renews it. Its failures change nothing else. */
export class CertificateManager {
  readonly #options: ManagerOptions;
  readonly #abort = new AbortController();
  readonly #jitter: number;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | null = null;
  #history: OrderHistory;
  /** The operator wants an order now. */
  #isRequested = false;
  /** Failed orders since the start. */
  failedOrders = 0;

  private constructor(options: ManagerOptions, history: OrderHistory) {
    this.#options = options;
    this.#history = history;
    this.#jitter = options.random();
  }

  /** Call `start` when the listeners are open. */
  static async open(options: ManagerOptions): Promise<CertificateManager> {
    return new CertificateManager(options, await options.state.readHistory());
  }

  /** Whether the last order has failed. */
  get isFailing(): boolean {
    return this.#history.failures > 0;
  }

  /** Time of the next order. */
  get nextOrderAt(): Date {
    return new Date(Math.max(this.#dueAtMs(), this.#options.wallClock()));
  }

  start(): void {
    this.#schedule(0);
  }

  /** Orders now if the last order failed or there is no certificate. */
  retryNow(): void {
    if (this.#hasCertificate && !this.isFailing) return;
    this.#isRequested = true;
    if (this.#running === null) this.#schedule(0);
  }

  /** Ends a running order. */
  async close(): Promise<void> {
    this.#abort.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** Whether there is a certificate of this CA for all domains, valid or not. */
  get #hasCertificate(): boolean {
    const { certificate } = this.#options.credentials;
    const { directoryUrl, domains } = this.#options.config;
    return certificate !== null && this.#history.issuedBy === directoryUrl && covers(certificate, domains);
  }

  #dueAtMs(): number {
    return this.#isRequested ? 0 : Math.max(this.#renewAtMs(), this.#history.retryAtMs);
  }

  #renewAtMs(): number {
    const { certificate } = this.#options.credentials;
    if (certificate === null || !this.#hasCertificate) return 0;
    const expiresAtMs = certificate.validToDate.getTime();
    const lifetimeMs = expiresAtMs - certificate.validFromDate.getTime();
    return expiresAtMs - lifetimeMs * (RENEWAL_SHARE + RENEWAL_JITTER * this.#jitter);
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer);
    if (this.#abort.signal.aborted) return;
    this.#timer = setTimeout(
      () => {
        this.#running = this.#check().finally(() => {
          this.#running = null;
        });
      },
      Math.min(Math.max(delayMs, 0), MAX_TIMER_MS),
    ).unref();
  }

  async #check(): Promise<void> {
    const { wallClock } = this.#options;
    const isLocked = wallClock() >= this.#dueAtMs() && !(await this.#orderIfDue());
    const delayMs = this.#dueAtMs() - wallClock();
    this.#schedule(isLocked ? LOCKED_RETRY_MS : delayMs);
  }

  /** Returns false if another relay orders. */
  async #orderIfDue(): Promise<boolean> {
    const { state, credentials, observer, wallClock } = this.#options;
    try {
      await using lock = await state.lock();
      if (lock === null) {
        observer.onLocked();
        return false;
      }
      // Another relay with this directory may have ordered.
      this.#history = await state.readHistory();
      await credentials.reload().catch(() => undefined);
      if (this.#hasCertificate && !this.isFailing) this.#isRequested = false;
      if (wallClock() >= this.#dueAtMs()) await this.#order();
    } catch (error) {
      await this.#onFailure(error);
    }
    return true;
  }

  async #order(): Promise<void> {
    const { config, state, credentials, observer, wallClock, random } = this.#options;
    const { failures, challengeType } = this.#history;
    const kind = this.#hasCertificate ? 'renewed' : 'obtained';
    if (failures > 0) observer.onRetry(failures, challengeType);
    this.#isRequested = false;
    // If the process crashes during the order, the next one waits.
    await this.#save({
      ...this.#history,
      failures: failures + 1,
      retryAtMs: nextOrderAt(failures + 1, null, wallClock(), random()),
    });
    const issued = await this.#request(challengeType);
    const certificate = new X509Certificate(issued.chain);
    if (!covers(certificate, config.domains))
      throw new Error('the certificate of the CA lacks a domain of the order');
    await state.saveCertificate(issued);
    const lifetimeMs = certificate.validToDate.getTime() - certificate.validFromDate.getTime();
    await this.#save({
      issuedBy: config.directoryUrl,
      failures: 0,
      // With a clock that is wrong, the certificate may seem to be due at once.
      retryAtMs: Math.round(wallClock() + lifetimeMs * RENEWAL_SHARE),
      challengeType,
    });
    // If the dates do not fit the clock, the check of the file reports it. Another order would not help.
    await credentials.reload().catch(() => undefined);
    observer.onIssued(kind, certificate.validToDate);
  }

  async #request(challengeType: ChallengeType): Promise<IssuedCertificate> {
    const { config, state, challenges, order } = this.#options;
    const { directoryUrl, email, domains } = config;
    let accountKey = await state.readAccountKey();
    if (accountKey === null) {
      const { privateKey } = await generateKey('ec', { namedCurve: 'P-256' });
      accountKey = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
      await state.saveAccountKey(accountKey);
    }
    const task = { directoryUrl, email, domains, accountKey, challengeType };
    try {
      return await order(task, (challenge) => this.#present(challenge), this.#abort.signal);
    } finally {
      challenges.tls.clear();
      challenges.http.clear();
    }
  }

  #present(challenge: Challenge): void {
    const { challenges } = this.#options;
    // One domain is checked at a time.
    challenges.tls.clear();
    challenges.http.clear();
    if (challenge.type === 'http-01') {
      challenges.http.set(challenge.token, challenge.answer);
    } else {
      const { domain, key, certificate } = challenge;
      challenges.tls.set(domain, createContext(key, certificate));
    }
  }

  async #onFailure(reason: unknown): Promise<void> {
    const { state, observer, wallClock, random, hasHttpPort } = this.#options;
    if (this.#abort.signal.aborted) {
      // The relay stops. That is not a failure, but restarts must not order without a pause.
      const failures = Math.max(this.#history.failures - 1, 0);
      const retryAtMs = wallClock() + RESTART_PAUSE_MS;
      await state.saveHistory({ ...this.#history, failures, retryAtMs }).catch(() => undefined);
      return;
    }
    this.#isRequested = false;
    const failure = toFailure(reason);
    const { challengeType: challenge } = this.#history;
    const failures = Math.max(this.#history.failures, 1);
    const retryAtMs = nextOrderAt(failures, failure, wallClock(), random());
    const challengeType = nextChallengeType(challenge, failure, hasHttpPort);
    this.#history = { ...this.#history, failures, retryAtMs, challengeType };
    // If this fails, the history from before the order remains.
    await state.saveHistory(this.#history).catch(() => undefined);
    this.failedOrders += 1;
    const advice = adviceFor(failure, challenge);
    const retryAt = new Date(retryAtMs);
    observer.onFailed({ challenge, failures, failure, advice, retryAt });
  }

  async #save(history: OrderHistory): Promise<void> {
    this.#history = history;
    await this.#options.state.saveHistory(history);
  }
}

function covers(certificate: X509Certificate, domains: readonly string[]): boolean {
  return domains.every((domain) => certificate.checkHost(domain) !== undefined);
}

function toFailure(error: unknown): OrderFailure {
  if (error instanceof OrderError) return error.failure;
  const code = errorCode(error);
  // The only system errors here are those of files.
  if (code !== 'unknown') return { problem: 'state', detail: code, retryAtMs: null };
  const detail = error instanceof Error ? error.message : 'unknown error';
  return { problem: null, detail, retryAtMs: null };
}
