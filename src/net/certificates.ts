import { stat } from 'node:fs/promises';
import type { SecureContext } from 'node:tls';
import { errorCode } from '../error-code.ts';
import { CertificateError, readCredentials } from './certificate-files.ts';
import type { Credentials } from './certificate-files.ts';
import type { TlsFiles } from './endpoint.ts';

export { CertificateError } from './certificate-files.ts';

/** Time between two looks at the files, in milliseconds. */
const LOOK_INTERVAL_MS = 3000;

const DAY_MS = 86_400_000;

/** A certificate with less than this left should have been renewed long ago, in milliseconds. */
const EXPIRES_SOON_MS = 14 * DAY_MS;

/** Who hears of what happens to certificates that are watched. */
export interface CertificateObserver {
  /** New connections get the new certificate. */
  reloaded(): void;
  /** What is in the files now can't be used; the old certificate stays. Said once for each state of the files. */
  failed(error: CertificateError): void;
  /** Less than 14 days are left, or none. Said once a day. */
  expiring(expiresAt: Date): void;
}

/** The certificate of a listener, for as long as the relay runs; its files may be replaced meanwhile. */
export class Certificates {
  readonly #files: TlsFiles;
  readonly #wallClock: () => number;
  #current: Credentials;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;
  /** What the files looked like at the last look, and when they were last read with success. */
  #seen = '';
  #settled = '';
  #failures = 0;
  #warnedAtMs = Number.NEGATIVE_INFINITY;

  private constructor(files: TlsFiles, wallClock: () => number, current: Credentials) {
    this.#files = files;
    this.#wallClock = wallClock;
    this.#current = current;
  }

  /**
   * @param wallClock milliseconds since the epoch
   * @throws CertificateError
   */
  static async load(files: TlsFiles, wallClock = Date.now): Promise<Certificates> {
    return new Certificates(files, wallClock, await readCredentials(files, wallClock()));
  }

  /** For the next connection; those that there are keep what they have got. */
  get context(): SecureContext {
    return this.#current.context;
  }

  get expiresAt(): Date {
    return this.#current.expiresAt;
  }

  /**
   * Reads the files at once.
   *
   * @throws CertificateError where they can't be used; the old certificate stays then.
   */
  async reload(): Promise<'unchanged' | 'reloaded'> {
    const fresh = await readCredentials(this.#files, this.#wallClock());
    // The same certificate has the same key.
    if (fresh.chain === this.#current.chain) return 'unchanged';
    this.#current = fresh;
    return 'reloaded';
  }

  /**
   * Reads the files whenever they have changed, until `close`. Does not keep the process.
   *
   * Looks at them from time to time, since there are too many ways to replace them: in place, by a rename, by a
   * link to them or to a directory above.
   */
  watch(observer: CertificateObserver, lookIntervalMs: number = LOOK_INTERVAL_MS): void {
    this.#warn(observer);
    this.#timer = setTimeout(() => {
      void this.#look(observer).then(() => {
        if (!this.#closed) this.watch(observer, lookIntervalMs);
      });
    }, lookIntervalMs).unref();
  }

  close(): void {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async #look(observer: CertificateObserver): Promise<void> {
    const { keyPath, certificatePath, chainPath } = this.#files;
    const looks = await Promise.all([keyPath, certificatePath, chainPath ?? keyPath].map(lookOf));
    const seen = looks.join(' ');
    const isStill = seen === this.#seen;
    this.#seen = seen;
    if (this.#closed || seen === this.#settled) return;
    // Somebody may be writing; what is read half would be a fault.
    if (!isStill) {
      this.#failures = 0;
      return;
    }
    try {
      const change = await this.reload();
      this.#settled = seen;
      if (change === 'reloaded') observer.reloaded();
    } catch (error) {
      if (!(error instanceof CertificateError)) throw error;
      // A key and its certificate are replaced one after the other, so this may mend itself.
      this.#failures += 1;
      if (this.#failures === 2) observer.failed(error);
    }
  }

  #warn(observer: CertificateObserver): void {
    const nowMs = this.#wallClock();
    const isDue = Math.abs(nowMs - this.#warnedAtMs) >= DAY_MS;
    if (!isDue || this.expiresAt.getTime() - nowMs >= EXPIRES_SOON_MS) return;
    this.#warnedAtMs = nowMs;
    observer.expiring(this.expiresAt);
  }
}

/** Changes whenever the file at the end of all links does, or another is there. */
async function lookOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(':');
  } catch (error) {
    return errorCode(error);
  }
}
