import type { Logger } from 'pino';
import type { Endpoint } from '../config/endpoint.ts';
import { CertificateError, ReloadableCredentials } from '../transport/tls-credentials.ts';

const RELOAD_FAILED = 'certificate reload failed; keeping the previous certificate';

/** The certificates of all listeners, and what the log says of them. */
export class RelayCertificates {
  readonly #log: Logger;
  readonly #certificates: ReloadableCredentials[] = [];

  constructor(log: Logger) {
    this.#log = log;
  }

  /**
   * The certificate of an endpoint, which is read now, and whenever its files change. Null where it has none.
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

  /** Reads all of them anew. What is wrong with one is in the log, and the one before stays. */
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
