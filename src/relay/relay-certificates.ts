import type { BoundEndpoint, Endpoint } from '../config/endpoint.ts';
import type { RelayConfig } from '../config/relay-config.ts';
import type { Log } from '../process/logging.ts';
import type { AcmeChallenges } from '../transport/acme-challenges.ts';
import { CertificateError, ReloadableCredentials } from '../transport/tls-credentials.ts';
import type { AcmeService } from './acme.ts';
import type { ListenerCertificate } from './status-report.ts';
import type { Warnings } from './warnings.ts';

/** The port of `http://`, to which a certificate authority connects for HTTP-01. */
const HTTP_PORT = 80;

const RELOAD_FAILED = 'certificate reload failed; keeping the previous certificate';

/** The certificates of the relay's listeners, from files or by ACME, and their log. */
export class RelayCertificates {
  readonly #log: Log;
  readonly #byEndpoint = new Map<Endpoint, ReloadableCredentials>();
  readonly #listeners: ListenerCertificate[] = [];
  #acme: AcmeService | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  /** The certificate of each listener that has one. */
  get listeners(): readonly ListenerCertificate[] {
    return this.#listeners;
  }

  /** Null without a domain for a certificate by ACME. */
  get acme(): AcmeService | null {
    return this.#acme;
  }

  /** Opens the certificate by ACME, if it is configured. Otherwise its modules are not loaded. */
  async openAcme(
    { acme: config, listen: { raw, websocket } }: Pick<RelayConfig, 'acme' | 'listen'>,
    challenges: AcmeChallenges,
    warnings: Warnings,
  ): Promise<void> {
    if (config === null) return;
    const { AcmeService } = await import('./acme.ts');
    const hasHttpPort = [...raw, ...websocket].some(
      (endpoint) => endpoint.kind === 'tcp' && endpoint.port === HTTP_PORT && endpoint.tls === null,
    );
    this.#acme = await AcmeService.open(config, { challenges, hasHttpPort }, this.#log, warnings);
    this.#watch(this.#acme.credentials);
  }

  /**
   * Loads the certificate of an endpoint, and reloads it whenever its files change. Null if the endpoint has none.
   *
   * @throws CertificateError
   */
  async load(endpoint: Endpoint): Promise<ReloadableCredentials | null> {
    const files = endpoint.kind === 'unix' ? null : endpoint.tls;
    if (files === null) return null;
    const certificate =
      files === 'acme' ? (this.#acme?.credentials ?? null) : await ReloadableCredentials.load(files);
    if (certificate === null) return null;
    if (files !== 'acme') this.#watch(certificate);
    this.#byEndpoint.set(endpoint, certificate);
    return certificate;
  }

  /** @param bound `endpoint` with its actual port */
  onListening(endpoint: Endpoint, bound: BoundEndpoint): void {
    const certificate = this.#byEndpoint.get(endpoint);
    if (certificate !== undefined) this.#listeners.push({ endpoint: bound, certificate });
  }

  /**
   * Reads all files now. If a certificate cannot be read, that is logged, and the previous one stays in use. A
   * request for a certificate that has failed is repeated.
   */
  async reload(): Promise<void> {
    this.#acme?.retryNow();
    for (const certificate of new Set(this.#byEndpoint.values())) {
      // There is no file to read yet.
      if (certificate.expiresAt === null) continue;
      try {
        const result = await certificate.reload();
        this.#log.info({ event: 'certificate_reloaded', result }, 'certificate reloaded');
      } catch (error) {
        if (!(error instanceof CertificateError)) throw error;
        this.#log.error({ event: 'certificate_reload_failed', problem: error.message }, RELOAD_FAILED);
      }
    }
  }

  async close(): Promise<void> {
    for (const certificate of this.#byEndpoint.values()) certificate.close();
    await this.#acme?.close();
  }

  #watch(certificate: ReloadableCredentials): void {
    const log = this.#log;
    certificate.watch({
      onReloaded: () =>
        log.info({ event: 'certificate_replaced', expires: certificate.expiresAt }, 'certificate replaced'),
      onReloadFailed: ({ message }) =>
        log.error({ event: 'certificate_reload_failed', problem: message }, RELOAD_FAILED),
      onExpiring: (expires) =>
        log.warn({ event: 'certificate_expires_soon', expires }, 'certificate expires soon'),
      onInvalid: (state, problem) =>
        log.error(
          { event: `certificate_${state}`, expires: certificate.expiresAt, problem },
          'clients reject the certificate; it stays in use until it is replaced',
        ),
    });
  }
}
