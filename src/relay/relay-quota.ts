import type { Logger } from 'pino';
import type { RelayConfig } from '../config/relay-config.ts';
import { QuotaTracker } from '../limits/quota.ts';
import type { AdmissionControl } from '../sessions/admission-control.ts';
import type { SessionManager } from '../sessions/session-manager.ts';
import type { RelayStatus } from '../status/relay-status.ts';

/** What the quota acts on. */
interface RelayQuotaDependencies {
  readonly sessions: SessionManager;
  readonly admission: AdmissionControl;
  /** Payload since the start of the process, in bytes, blurred for publication. */
  readonly relayedBytes: () => number;
}

/** Rejects and closes clients when the quota is exhausted, and logs it. */
export class RelayQuota {
  readonly tracker: QuotaTracker;

  /** @throws QuotaFileError if the previous usage cannot be read */
  constructor(
    quota: NonNullable<RelayConfig['quota']>,
    { sessions, admission, relayedBytes }: RelayQuotaDependencies,
    log: Logger,
  ) {
    this.tracker = new QuotaTracker(quota, {
      relayedBytes,
      wallClock: () => Date.now(),
      onWarning: (percent) => log.warn({ percent, ...this.status() }, 'quota almost exhausted'),
      onExhausted: () => {
        log.error(this.status(), 'quota exhausted; rejecting clients until it is reset');
        admission.isOverQuota = true;
        sessions.closeWaiting();
      },
      onGraceEnd: () => sessions.closePairs(),
      onReset: () => {
        log.info(this.status(), 'quota reset');
        admission.isOverQuota = false;
      },
      onSaveFailed: (code) =>
        log.error({ code }, 'saving the quota failed; a restart would lose the usage since the last save'),
    });
    // It may be exhausted already.
    this.tracker.check();
  }

  status(): NonNullable<RelayStatus['quota']> {
    const { usedBytes, limitBytes, resetsAtMs } = this.tracker.quota;
    return { used_bytes: usedBytes, limit_bytes: limitBytes, resets: new Date(resetsAtMs).toISOString() };
  }

  close(): Promise<void> {
    return this.tracker.close();
  }
}
