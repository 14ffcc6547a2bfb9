import { CertificateManager } from '../acme/certificate-manager.ts';
import { runOrder } from '../acme/order-runner.ts';
import { StateDirectory } from '../acme/state-directory.ts';
import type { AcmeConfig } from '../config/acme-config.ts';
import type { Log } from '../process/logging.ts';
import type { AcmeChallenges } from '../transport/acme-challenges.ts';
import { ReloadableCredentials } from '../transport/tls-credentials.ts';
import type { Warnings } from './warnings.ts';

/** Event of the log line and of the warning. */
const FAILED = 'acme_failed';

/** The certificate that the relay gets by ACME, and its log. Only loaded if there is a domain for it. */
export class AcmeService {
  /** For all listeners without files of their own. */
  readonly credentials: ReloadableCredentials;
  readonly #manager: CertificateManager;
  readonly #config: AcmeConfig;
  readonly #log: Log;
  readonly #warnings: Warnings;

  private constructor(
    credentials: ReloadableCredentials,
    manager: CertificateManager,
    config: AcmeConfig,
    log: Log,
    warnings: Warnings,
  ) {
    this.#warnings = warnings;
    this.credentials = credentials;
    this.#manager = manager;
    this.#config = config;
    this.#log = log;
  }

  /**
   * Loads the certificate of earlier starts, if there is one.
   *
   * @param hasHttpPort a listener without TLS has port 80
   * @throws AcmeStateError
   */
  static async open(
    config: AcmeConfig,
    { challenges, hasHttpPort }: { readonly challenges: AcmeChallenges; readonly hasHttpPort: boolean },
    log: Log,
    warnings: Warnings,
  ): Promise<AcmeService> {
    const state = await StateDirectory.open(config);
    const credentials = await ReloadableCredentials.loadIfPresent(state.files);
    const { domains } = config;
    const manager = await CertificateManager.open({
      config,
      state,
      credentials,
      challenges,
      hasHttpPort,
      order: runOrder,
      observer: {
        onIssued: (kind, expires) => {
          warnings.clear(FAILED);
          log.info({ event: `acme_certificate_${kind}`, domains, expires }, `certificate ${kind}`);
        },
        onFailed: ({ challenge, failures, failure, advice, retryAt }) => {
          const { problem, detail } = failure;
          const next = `the next request is at ${retryAt.toISOString()}`;
          warnings.raise(FAILED, `no certificate by ACME for ${domains.join(', ')}: ${advice}; ${next}`);
          log.error(
            {
              event: FAILED,
              domains,
              challenge,
              problem,
              detail,
              advice,
              failures,
              retry_at: retryAt,
            },
            'no certificate by ACME; the relay works without it and tries again',
          );
        },
        onRetry: (failures, challenge) =>
          log.info({ event: 'acme_retry', domains, challenge, failures }, 'requesting the certificate again'),
        onLocked: () =>
          log.info(
            { event: 'acme_locked', state: config.statePath },
            'another relay with the same RELAY_ACME_STATE requests the certificate; waiting for it',
          ),
      },
      wallClock: Date.now,
      random: Math.random,
    });
    return new AcmeService(credentials, manager, config, log, warnings);
  }

  /** Failed requests for a certificate since the start. */
  get failures(): number {
    return this.#manager.failedOrders;
  }

  /** Requests the certificate if it is due. Call it when the listeners are open. */
  start(): void {
    const { domains, directoryUrl: directory, statePath: state } = this.#config;
    const { expiresAt } = this.credentials;
    const next = this.#manager.nextOrderAt;
    if (expiresAt === null || this.#manager.isFailing)
      this.#warnings.raise(
        FAILED,
        `there is no new certificate for ${domains.join(', ')} yet; the next request is at ${next.toISOString()}`,
      );
    this.#log.info(
      { event: 'acme_started', domains, directory, state, expires: expiresAt, next_request: next },
      expiresAt === null
        ? 'requesting a certificate by ACME; TLS connections fail until there is one'
        : 'using the certificate of earlier starts',
    );
    this.#manager.start();
  }

  /** Requests the certificate now if the last request has failed. */
  retryNow(): void {
    this.#manager.retryNow();
  }

  close(): Promise<void> {
    return this.#manager.close();
  }
}
