import { hostname } from 'node:os';
import type { BoundEndpoint } from '../config/endpoint.ts';
import type { Quota } from '../limits/quota.ts';
import type { RejectReason, RejectionEpisode } from '../limits/rejection-history.ts';
import { VERSION } from '../process/version.ts';
import type { AdmissionControl } from '../sessions/admission-control.ts';
import type { SessionManager } from '../sessions/session-manager.ts';
import type { OperatorWarning, RelayStatus, ServiceState } from '../status/relay-status.ts';
import type { RateMeter } from '../status/samplers.ts';
import type { ReloadableCredentials } from '../transport/tls-credentials.ts';
import type { UsageRecorder } from '../usage/record.ts';
import type { ReachedLimit } from './rejection-log.ts';
import type { RelayUsage } from './relay-usage.ts';
import type { Warnings } from './warnings.ts';

/** Limits that reject clients while others are served. */
const LIMIT_REASONS = ['connections', 'waiting', 'address'] as const;

type LimitReason = (typeof LIMIT_REASONS)[number];

/** The certificate of a listener. */
export interface ListenerCertificate {
  readonly endpoint: BoundEndpoint;
  readonly certificate: Pick<ReloadableCredentials, 'expiresAt' | 'validity' | 'problem'>;
}

/** The parts of the relay that the status is read from. Parts that open later, or are not configured, are null. */
interface StatusReportDependencies {
  readonly sessions: SessionManager;
  readonly admission: AdmissionControl;
  readonly recorder: UsageRecorder;
  readonly usage: RelayUsage;
  readonly rate: RateMeter;
  readonly warnings: Warnings;
  readonly limitOf: (reason: RejectReason) => ReachedLimit;
  readonly quota: () => Quota | null;
  readonly certificates: () => readonly ListenerCertificate[];
}

/** Collects the body of `/status.json` from memory. */
export class StatusReport {
  readonly #relay: StatusReportDependencies;
  readonly #host = hostname();
  readonly #started = new Date();
  readonly #startedTick = performance.now();

  constructor(relay: StatusReportDependencies) {
    this.#relay = relay;
  }

  /** Start of the process, in seconds since the epoch. */
  get startedAtSeconds(): number {
    return this.#started.getTime() / 1000;
  }

  read(): RelayStatus {
    const { sessions, admission, recorder, rate, usage, quota } = this.#relay;
    const { connected, waiting, relayedBytes } = sessions.liveCounts();
    const refusing = this.#refusing();
    const [certificates, currentQuota] = [this.certificates(), quota()];
    return {
      version: VERSION,
      host: this.#host,
      started: this.#started.toISOString(),
      uptime_seconds: Math.round((performance.now() - this.#startedTick) / 1000),
      state: this.#state(refusing !== null),
      draining: admission.isDraining,
      refusing,
      connections: admission.connections,
      pairs: connected / 2,
      waiting,
      limits: { connections: admission.maxConnections, waiting: admission.maxWaiting },
      relayed_bytes: recorder.blurCounter(relayedBytes),
      bytes_per_second: Math.round(rate.perSecond),
      refused: admission.rejected,
      refused_last_hour: admission.rejections.lastHour,
      quota: currentQuota === null ? null : quotaStatus(currentQuota),
      certificates,
      warnings: this.warnings(),
      usage: { queued: usage.queued, dropped: usage.databaseRecords.dropped, problem: usage.problem },
    };
  }

  /** Without a listener whose first certificate by ACME is still to come. */
  certificates(): RelayStatus['certificates'] {
    return this.#relay.certificates().flatMap(({ endpoint, certificate }) => {
      const { expiresAt, validity, problem } = certificate;
      if (expiresAt === null) return [];
      const expired = validity === 'expired';
      return { listener: listenerName(endpoint), expires: expiresAt.toISOString(), expired, problem };
    });
  }

  warnings(): RelayStatus['warnings'] {
    return [...this.#relay.certificates().flatMap(certificateWarnings), ...this.#relay.warnings.current];
  }

  /**
   * Why clients are rejected, whatever address they come from, in a sentence; null if they are not. Limits per
   * address are left out, because any client can exceed its own.
   */
  rejectionProblem(): string | null {
    const { admission } = this.#relay;
    const rejects = (reason: 'connections' | 'waiting'): boolean =>
      admission.rejections.episode(reason) !== null;
    const reason = admission.isOverQuota ? 'quota' : (['connections', 'waiting'] as const).find(rejects);
    if (reason === undefined) return null;
    const { problem, variable, value } = this.#relay.limitOf(reason);
    return `clients are rejected: ${problem} (${variable}=${value})`;
  }

  #state(isRefusing: boolean): ServiceState {
    const { admission } = this.#relay;
    if (admission.isDraining) return 'draining';
    if (admission.isOverQuota) return 'over_quota';
    return isRefusing ? 'refusing' : 'serving';
  }

  #refusing(): RelayStatus['refusing'] {
    const { rejections } = this.#relay.admission;
    let most: { readonly reason: LimitReason; readonly episode: RejectionEpisode } | null = null;
    for (const reason of LIMIT_REASONS) {
      const episode = rejections.episode(reason);
      if (episode !== null && episode.count > (most?.episode.count ?? 0)) most = { reason, episode };
    }
    if (most === null) return null;
    const { reason, episode } = most;
    return {
      reason,
      variable: this.#relay.limitOf(reason).variable ?? '',
      since: isoTime(episode.startedAt),
      last: isoTime(episode.lastAt),
    };
  }
}

function quotaStatus(quota: Quota): NonNullable<RelayStatus['quota']> {
  return {
    used_bytes: quota.usedBytes,
    limit_bytes: quota.limitBytes,
    period_started: isoTime(quota.periodStartedAtMs),
    counts_since: isoTime(quota.countsSinceMs),
    resets: isoTime(quota.resetsAtMs),
    exhausted: quota.isExhausted,
  };
}

/** The warning about a certificate, if there is one. */
function certificateWarnings({ endpoint, certificate }: ListenerCertificate): readonly OperatorWarning[] {
  const { expiresAt, validity, problem } = certificate;
  const listener = listenerName(endpoint);
  if (problem !== null) {
    const isInvalid = validity === 'expired' || validity === 'not_yet_valid';
    const event = isInvalid ? `certificate_${validity}` : 'certificate_reload_failed';
    return [{ event, message: `${listener}: ${problem}` }];
  }
  if (validity !== 'expiring' || expiresAt === null) return [];
  const [day = ''] = expiresAt.toISOString().split('T');
  return [{ event: 'certificate_expires_soon', message: `the certificate of ${listener} expires on ${day}` }];
}

/** Without the paths of its certificate. */
function listenerName(endpoint: BoundEndpoint): string {
  if (endpoint.kind === 'unix') return `unix ${endpoint.path}`;
  const { interface: address, port } = endpoint;
  if (address === null) return `tcp ${port}`;
  return `tcp ${address.includes(':') ? `[${address}]` : address}:${port}`;
}

function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}
