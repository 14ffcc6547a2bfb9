import { X509Certificate, constants as openssl, createPrivateKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { constants } from 'node:fs';
import { open, stat as statPath } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { SecureContext } from 'node:tls';
import type { TlsFiles } from '../config/endpoint.ts';
import { errorCode } from '../process/error-code.ts';
import { StartupError } from '../process/startup-error.ts';

/** Why there can be no TLS with these files, in a sentence for the operator. Has nothing of what is in them. */
export class CertificateError extends StartupError {}

/** What a listener needs for TLS. */
export interface TlsCredentials {
  readonly context: SecureContext;
  /** What is shown to clients, as PEM, the server's own certificate first. */
  readonly chain: string;
  /** When the server's own certificate ends. */
  readonly expiresAt: Date;
}

/** More than any key or chain has, in bytes. */
const MAX_FILE_BYTES = 2 ** 20;

/**
 * The cipher suites, best first. Each one encrypts and authenticates in one step (AEAD), and agrees on keys that are gone when the
 * connection closes: TLS 1.2 also has suites with CBC, which leak through timing (LUCKY13).
 */
const CIPHER_SUITES = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':');

/**
 * - The relay's order decides, except that a client without AES hardware, which lists ChaCha20 first, gets ChaCha20.
 * - No session tickets: the key that encrypts them would live as long as the process, and open all recorded sessions.
 * - No renegotiation: Node allows it, and each one costs the relay a signature.
 */
const SECURE_OPTIONS =
  openssl.SSL_OP_CIPHER_SERVER_PREFERENCE |
  openssl.SSL_OP_PRIORITIZE_CHACHA |
  openssl.SSL_OP_NO_TICKET |
  openssl.SSL_OP_NO_RENEGOTIATION;

const FILE_ERROR_REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'is not there: check the path in the endpoint',
  ENOTDIR: 'is not there: check the path in the endpoint',
  EACCES:
    'may not be read by the user that the relay runs as: see its mode, and that of the directories above it',
};

/**
 * Reads a key and its certificates, and checks that clients could use them at `nowMs`.
 *
 * The certificate's file may have the whole chain, and the key as well. The certificate has to come first.
 *
 * @param nowMs milliseconds since the epoch
 * @throws CertificateError
 */
export async function readCredentials(files: TlsFiles, nowMs: number): Promise<TlsCredentials> {
  const { keyPath, certificatePath, chainPath } = files;
  const certificates = await readCertificates(certificatePath);
  if (chainPath !== null) certificates.push(...(await readCertificates(chainPath)));
  const [own] = certificates;
  if (own === undefined) throw new CertificateError(`the certificate ${certificatePath} is empty`);
  // The chain's file is often one that begins with the certificate itself.
  const chain = [...new Set(certificates.map(String))].join('');

  const pem = await readBytes('key', keyPath);
  try {
    if (!own.checkPrivateKey(parseKey(pem, keyPath))) {
      throw new CertificateError(
        `the key ${keyPath} does not belong to the first certificate in ${certificatePath}: ` +
          'give the two that were made together, with the certificate of this server first',
      );
    }
    checkValidity(own, certificatePath, nowMs);
    return { context: createContext(files, pem, chain), chain, expiresAt: own.validToDate };
  } finally {
    // OpenSSL has a copy; this one need not wait for the garbage collector.
    pem.fill(0);
  }
}

function createContext({ keyPath, certificatePath }: TlsFiles, key: Buffer, cert: string): SecureContext {
  try {
    return createSecureContext({
      key,
      cert,
      minVersion: 'TLSv1.2',
      ciphers: CIPHER_SUITES,
      secureOptions: SECURE_OPTIONS,
    });
  } catch (error) {
    throw new CertificateError(
      `OpenSSL does not take the key ${keyPath} with the certificate ${certificatePath} (${errorCode(error)}): ` +
        'it may be too weak for clients of today; make a new pair',
    );
  }
}

function checkValidity(own: X509Certificate, path: string, nowMs: number): void {
  if (nowMs > own.validToDate.getTime()) {
    throw new CertificateError(
      `the certificate ${path} has expired, on ${own.validToDate.toISOString()}: renew it`,
    );
  }
  if (nowMs < own.validFromDate.getTime()) {
    const from = own.validFromDate.toISOString();
    throw new CertificateError(
      `the certificate ${path} is valid only from ${from} on: wait for that, or set this machine's clock right`,
    );
  }
}

async function readCertificates(path: string): Promise<X509Certificate[]> {
  const bytes = await readBytes('certificate', path);
  const blocks = bytes
    .toString('latin1')
    .match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/gu);
  // How every certificate begins in DER: a sequence of two length bytes.
  const isDer = bytes[0] === 0x30 && bytes[1] === 0x82;
  bytes.fill(0);
  if (blocks === null) {
    const advice = isDer
      ? `it is in DER form; convert it with openssl x509 -inform der -in ${path}`
      : 'look for -----BEGIN CERTIFICATE----- in it';
    throw new CertificateError(`the certificate ${path} is none in PEM form: ${advice}`);
  }
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch (error) {
    throw new CertificateError(
      `the certificate ${path} is damaged (${errorCode(error)}): get it anew from who issued it`,
    );
  }
}

function parseKey(pem: Buffer, path: string): KeyObject {
  // Both forms there are: PKCS #8, and the older one with a header.
  if (pem.includes('-----BEGIN ENCRYPTED PRIVATE KEY-----') || pem.includes('Proc-Type: 4,ENCRYPTED')) {
    throw new CertificateError(
      `the key ${path} is encrypted, and there is no passphrase here: write it without one by openssl pkey -in ${path}`,
    );
  }
  if (!pem.includes('PRIVATE KEY-----')) {
    const swapped = pem.includes('-----BEGIN CERTIFICATE-----');
    throw new CertificateError(
      `the key ${path} is none in PEM form: ` +
        (swapped
          ? 'it has a certificate, which is for certKey='
          : 'look for -----BEGIN PRIVATE KEY----- in it'),
    );
  }
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw new CertificateError(
      `the key ${path} is damaged (${errorCode(error)}): restore it, or make a new pair`,
    );
  }
}

/** Nothing of it is anywhere but in the buffer. */
async function readBytes(what: 'key' | 'certificate', path: string): Promise<Buffer> {
  try {
    // A pipe would wait for its writer.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await file.stat();
    if (!stat.isFile())
      throw new CertificateError(`the ${what} ${path} is no regular file: give the path of one`);
    if (stat.size > MAX_FILE_BYTES) {
      throw new CertificateError(
        `the ${what} ${path} has more than ${MAX_FILE_BYTES} bytes: it is something else`,
      );
    }
    const bytes = Buffer.alloc(stat.size);
    const { bytesRead } = await file.read(bytes, 0, stat.size, 0);
    return bytes.subarray(0, bytesRead);
  } catch (error) {
    if (error instanceof CertificateError) throw error;
    const code = errorCode(error);
    throw new CertificateError(
      `the ${what} ${path} ${FILE_ERROR_REASONS[code] ?? "can't be read"} (${code})`,
    );
  }
}

/** Time between two looks at the files, in milliseconds. */
const CHECK_INTERVAL_MS = 3000;

const DAY_MS = 86_400_000;

/** A certificate with less than this left should have been renewed long ago, in milliseconds. */
const EXPIRY_WARNING_MS = 14 * DAY_MS;

/** Who hears of what happens to certificates that are watched. */
export interface CertificateObserver {
  /** New connections get the new certificate. */
  onReloaded(): void;
  /** What is in the files now can't be used; the old certificate stays. Said once for each state of the files. */
  onReloadFailed(error: CertificateError): void;
  /** Less than 14 days are left, or none. Said once a day. */
  onExpiring(expiresAt: Date): void;
}

/** The certificate of a listener, for as long as the relay runs; its files may be replaced meanwhile. */
export class ReloadableCredentials {
  readonly #files: TlsFiles;
  readonly #wallClock: () => number;
  #current: TlsCredentials;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;
  /** What the files looked like at the last look, and when they were last read with success. */
  #lastFingerprint = '';
  #loadedFingerprint = '';
  #failureCount = 0;
  #warnedAtMs = Number.NEGATIVE_INFINITY;

  private constructor(files: TlsFiles, wallClock: () => number, current: TlsCredentials) {
    this.#files = files;
    this.#wallClock = wallClock;
    this.#current = current;
  }

  /**
   * @param wallClock milliseconds since the epoch
   * @throws CertificateError
   */
  static async load(files: TlsFiles, wallClock = Date.now): Promise<ReloadableCredentials> {
    return new ReloadableCredentials(files, wallClock, await readCredentials(files, wallClock()));
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
  watch(observer: CertificateObserver, lookIntervalMs: number = CHECK_INTERVAL_MS): void {
    this.#warnIfExpiring(observer);
    this.#timer = setTimeout(() => {
      void this.#check(observer).then(() => {
        if (!this.#closed) this.watch(observer, lookIntervalMs);
      });
    }, lookIntervalMs).unref();
  }

  close(): void {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async #check(observer: CertificateObserver): Promise<void> {
    const { keyPath, certificatePath, chainPath } = this.#files;
    const looks = await Promise.all([keyPath, certificatePath, chainPath ?? keyPath].map(fileFingerprint));
    const seen = looks.join(' ');
    const isStill = seen === this.#lastFingerprint;
    this.#lastFingerprint = seen;
    if (this.#closed || seen === this.#loadedFingerprint) return;
    // Somebody may be writing; what is read half would be a fault.
    if (!isStill) {
      this.#failureCount = 0;
      return;
    }
    try {
      const change = await this.reload();
      this.#loadedFingerprint = seen;
      if (change === 'reloaded') observer.onReloaded();
    } catch (error) {
      if (!(error instanceof CertificateError)) throw error;
      // A key and its certificate are replaced one after the other, so this may mend itself.
      this.#failureCount += 1;
      if (this.#failureCount === 2) observer.onReloadFailed(error);
    }
  }

  #warnIfExpiring(observer: CertificateObserver): void {
    const nowMs = this.#wallClock();
    const isDue = Math.abs(nowMs - this.#warnedAtMs) >= DAY_MS;
    if (!isDue || this.expiresAt.getTime() - nowMs >= EXPIRY_WARNING_MS) return;
    this.#warnedAtMs = nowMs;
    observer.onExpiring(this.expiresAt);
  }
}

/** Changes whenever the file at the end of all links does, or another is there. */
async function fileFingerprint(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await statPath(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(':');
  } catch (error) {
    return errorCode(error);
  }
}
