import type { Logger } from 'pino';
import { CertificateError, Certificates } from './net/certificates.ts';
import type { Endpoint } from './net/endpoint.ts';

const KEPT = 'a certificate can not be read; the one before stays';

/** The certificates of all listeners, and what the log says of them. */
export class RelayCertificates {
  readonly #log: Logger;
  readonly #all: Certificates[] = [];

  constructor(log: Logger) {
    this.#log = log;
  }

  /**
   * The certificate of an endpoint, which is read now, and whenever its files change. Null where it has none.
   *
   * @throws CertificateError
   */
  async of(endpoint: Endpoint): Promise<Certificates | null> {
    const files = endpoint.kind === 'unix' ? null : endpoint.tls;
    if (files === null) return null;
    const certificates = await Certificates.load(files);
    this.#all.push(certificates);
    certificates.watch({
      reloaded: () => this.#log.info({ expires: certificates.expiresAt }, 'a certificate has been replaced'),
      failed: ({ message }) => this.#log.error({ problem: message }, KEPT),
      expiring: (expires) => this.#log.warn({ expires }, 'a certificate expires soon'),
    });
    return certificates;
  }

  /** Reads all of them anew. What is wrong with one is in the log, and the one before stays. */
  async reload(): Promise<void> {
    for (const certificates of this.#all) {
      try {
        this.#log.info({ result: await certificates.reload() }, 'a certificate is read anew');
      } catch (error) {
        if (!(error instanceof CertificateError)) throw error;
        this.#log.error({ problem: error.message }, KEPT);
      }
    }
  }

  close(): void {
    for (const certificates of this.#all) certificates.close();
  }
}
