import type { Logger } from 'pino';
import type { Endpoint } from '../config/endpoint.ts';
import { CertificateError, ReloadableCredentials } from '../transport/tls-credentials.ts';

const RELOAD_FAILED = 'certificate reload failed; keeping the previous certificate';

/** The certificates of all listeners. Logs their changes. */
export class RelayCertificates {
  readonly #log: Logger;
  readonly #certificates: ReloadableCredentials[] = [];

  constructor(log: Logger) {
    this.#log = log;
  }

  /**
   * Loads the certificate of an endpoint, and reloads it whenever its files change. Null if the endpoint has
   * none.
   *
   * @throws CertificateError
   */
  async load(endpoint: Endpoint): Promise<ReloadableCredentials | null> {
    const files = endpoint.kind === 'unix' ? null : endpoint.tls;
    if (files === null) return null;
    const certificates = await ReloadableCredentials.load(files);
    this.#certificates.push(certificates);
    certificates.watch({
      onReloaded: () => this.#log.info({ expires: certificates.expiresAt }, 'certificate replaced'),
      onReloadFailed: ({ message }) => this.#log.error({ problem: message }, RELOAD_FAILED),
      onExpiring: (expires) => this.#log.warn({ expires }, 'certificate expires soon'),
    });
    return certificates;
  }

  /** Reloads all of them. A certificate that cannot be read is logged, and the previous one stays in use. */
  async reload(): Promise<void> {
    for (const certificates of this.#certificates) {
      try {
        this.#log.info({ result: await certificates.reload() }, 'certificate reloaded');
      } catch (error) {
        if (!(error instanceof CertificateError)) throw error;
        this.#log.error({ problem: error.message }, RELOAD_FAILED);
      }
    }
  }

  close(): void {
    for (const certificates of this.#certificates) certificates.close();
  }
}
