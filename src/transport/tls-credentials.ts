import { X509Certificate, constants as openssl, createPrivateKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { constants } from 'node:fs';
import { open, stat as statPath } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { SecureContext } from 'node:tls';
import type { TlsFiles } from '../config/endpoint.ts';
import { StartupError, errorCode } from '../process/errors.ts';

/**
 * Tells the operator, in one sentence, why these files can't be used for TLS. Contains nothing of their
 * contents.
 */
export class CertificateError extends StartupError {}

/** The certificate and key of a TLS listener. */
interface TlsCredentials {
  readonly context: SecureContext;
  /** The certificates that clients get, as PEM, the server's own certificate first. */
  readonly chain: string;
  /** When the server's own certificate becomes valid. */
  readonly validFrom: Date;
  /** When the server's own certificate expires. */
  readonly expiresAt: Date;
}

/** Whether clients accept the dates of a certificate; `expiring`: not for much longer. */
export type Validity = 'valid' | 'expiring' | 'expired' | 'not_yet_valid';

/** Larger than any key or chain, in bytes. */
const MAX_FILE_BYTES = 2 ** 20;

/**
 * The cipher suites, best first. All of them encrypt and authenticate in one step (AEAD) and have forward
 * secrecy. The CBC suites of TLS 1.2 are left out, because they leak through timing (LUCKY13).
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
 * - The relay's cipher order is used, except that clients without AES hardware, which list ChaCha20 first,
 *   get ChaCha20.
 * - No session tickets: their encryption key would exist as long as the process, and could decrypt all
 *   recorded sessions.
 * - No renegotiation: Node allows it, and each one costs the relay a signature.
 */
const SECURE_OPTIONS =
  openssl.SSL_OP_CIPHER_SERVER_PREFERENCE |
  openssl.SSL_OP_PRIORITIZE_CHACHA |
  openssl.SSL_OP_NO_TICKET |
  openssl.SSL_OP_NO_RENEGOTIATION;

const FILE_ERROR_REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist: check the path in the endpoint',
  ENOTDIR: 'does not exist: check the path in the endpoint',
  EACCES:
    "can't be read by the user that the relay runs as: check its mode, and that of the directories above it",
};

/**
 * Reads a key and its certificates, and checks that OpenSSL can use them, but not the dates.
 *
 * The certificate file may also contain the chain and the key. The server's own certificate must come first.
 *
 * @throws CertificateError
 */
export async function readCredentials(files: TlsFiles): Promise<TlsCredentials> {
  const { keyPath, certificatePath, chainPath } = files;
  const certificates = await readCertificates(certificatePath);
  if (chainPath !== null) certificates.push(...(await readCertificates(chainPath)));
  const [own] = certificates;
  if (own === undefined) throw new CertificateError(`the certificate ${certificatePath} is empty`);
  // The chain file often begins with the certificate itself.
  const chain = [...new Set(certificates.map(String))].join('');

  const pem = await readBytes('key', keyPath);
  try {
    if (!own.checkPrivateKey(parseKey(pem, keyPath))) {
      throw new CertificateError(
        `the key ${keyPath} does not belong to the first certificate in ${certificatePath}: ` +
          'use the certificate that was issued for this key, with the certificate of this server first',
      );
    }
    const { validFromDate: validFrom, validToDate: expiresAt } = own;
    return { context: createContextOf(files, pem, chain), chain, validFrom, expiresAt };
  } finally {
    // OpenSSL has a copy. This one is erased instead of being left to the garbage collector.
    pem.fill(0);
  }
}

const CONTEXT_OPTIONS = {
  minVersion: 'TLSv1.2',
  ciphers: CIPHER_SUITES,
  secureOptions: SECURE_OPTIONS,
} as const;

/** @throws an error of OpenSSL */
export function createContext(key: Buffer | string, cert: string): SecureContext {
  return createSecureContext({ key, cert, ...CONTEXT_OPTIONS });
}

function createContextOf({ keyPath, certificatePath }: TlsFiles, key: Buffer, cert: string): SecureContext {
  try {
    return createContext(key, cert);
  } catch (error) {
    throw new CertificateError(
      `OpenSSL rejects the key ${keyPath} with the certificate ${certificatePath} (${errorCode(error)}): ` +
        'it may be too weak; create a new key and certificate',
    );
  }
}

function validityAt({ validFrom, expiresAt }: TlsCredentials, nowMs: number): Validity {
  const leftMs = expiresAt.getTime() - nowMs;
  if (leftMs < 0) return 'expired';
  if (nowMs < validFrom.getTime()) return 'not_yet_valid';
  const lifetimeMs = expiresAt.getTime() - validFrom.getTime();
  return leftMs < Math.min(EXPIRY_WARNING_MS, lifetimeMs / 6) ? 'expiring' : 'valid';
}

/** A sentence for the operator; null if clients accept the dates. */
function validityProblem(credentials: TlsCredentials, path: string, nowMs: number): string | null {
  switch (validityAt(credentials, nowMs)) {
    case 'expired':
      return `the certificate ${path} expired on ${credentials.expiresAt.toISOString()}: renew it`;
    case 'not_yet_valid': {
      const from = credentials.validFrom.toISOString();
      return `the certificate ${path} is not valid before ${from}: wait until then, or correct this machine's clock`;
    }
    case 'expiring':
    case 'valid':
      return null;
  }
}

async function readCertificates(path: string): Promise<X509Certificate[]> {
  const bytes = await readBytes('certificate', path);
  const blocks = bytes
    .toString('latin1')
    .match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/gu);
  // Every DER certificate begins with a sequence that has two length bytes.
  const isDer = bytes[0] === 0x30 && bytes[1] === 0x82;
  bytes.fill(0);
  if (blocks === null) {
    const advice = isDer
      ? `it is in DER format; convert it with openssl x509 -inform der -in ${path}`
      : 'look for -----BEGIN CERTIFICATE----- in it';
    throw new CertificateError(`the certificate ${path} is not in PEM format: ${advice}`);
  }
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch (error) {
    throw new CertificateError(
      `the certificate ${path} is damaged (${errorCode(error)}): request a new copy from its issuer`,
    );
  }
}

function parseKey(pem: Buffer, path: string): KeyObject {
  // The two formats of encrypted keys: PKCS #8, and the older one with a header.
  if (pem.includes('-----BEGIN ENCRYPTED PRIVATE KEY-----') || pem.includes('Proc-Type: 4,ENCRYPTED')) {
    throw new CertificateError(
      `the key ${path} is encrypted, and the relay has no passphrase: decrypt it with openssl pkey -in ${path}`,
    );
  }
  if (!pem.includes('PRIVATE KEY-----')) {
    const swapped = pem.includes('-----BEGIN CERTIFICATE-----');
    throw new CertificateError(
      `the key ${path} is not in PEM format: ` +
        (swapped
          ? 'it contains a certificate, which belongs in certKey='
          : 'look for -----BEGIN PRIVATE KEY----- in it'),
    );
  }
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw new CertificateError(
      `the key ${path} is damaged (${errorCode(error)}): restore it, or create a new key and certificate`,
    );
  }
}

/** Reads a file without another copy of its contents in memory. */
async function readBytes(what: 'key' | 'certificate', path: string): Promise<Buffer> {
  try {
    // Opening a pipe would otherwise wait for its writer.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await file.stat();
    if (!stat.isFile())
      throw new CertificateError(`the ${what} ${path} is not a regular file: use the path of one`);
    if (stat.size > MAX_FILE_BYTES) {
      throw new CertificateError(
        `the ${what} ${path} is larger than ${MAX_FILE_BYTES} bytes: it is not a ${what}`,
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

/** Time between two checks of the files, in milliseconds. */
const CHECK_INTERVAL_MS = 3000;

const DAY_MS = 86_400_000;

/**
 * Remaining validity below which an automatic renewal must have failed, in milliseconds. It is less for
 * certificates with a short lifetime.
 */
const EXPIRY_WARNING_MS = 14 * DAY_MS;

/** Receives the events of watched certificate files. */
interface CertificateObserver {
  /** New connections get the new certificate. */
  onReloaded(): void;
  /** The new files can't be used. The old certificate stays in use. Called once per state of the files. */
  onReloadFailed(error: CertificateError): void;
  /** The certificate expires in less than 14 days. Called once a day. */
  onExpiring(expiresAt: Date): void;
  /**
   * Clients reject the certificate, because it has expired or is not valid yet. It stays in use. Called once a
   * day.
   */
  onInvalid(state: 'expired' | 'not_yet_valid', problem: string): void;
}

/** The certificate of a listener, which is reloaded when its files are replaced. */
export class ReloadableCredentials {
  readonly #files: TlsFiles;
  readonly #wallClock: () => number;
  /** Null: there is no certificate yet. */
  #current: TlsCredentials | null;
  #emptyContext: SecureContext | null = null;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;
  /** Fingerprint of the files at the last check. */
  #lastFingerprint = '';
  /** Fingerprint of the files at the last successful load. */
  #loadedFingerprint = '';
  #failureCount = 0;
  /** Why the last reload failed. */
  #reloadProblem: string | null = null;
  #reportedAtMs = Number.NEGATIVE_INFINITY;
  #reported: Validity = 'valid';

  private constructor(files: TlsFiles, wallClock: () => number, current: TlsCredentials | null) {
    this.#files = files;
    this.#wallClock = wallClock;
    this.#current = current;
  }

  /**
   * A certificate that has expired or is not valid yet is used nevertheless, so that it never keeps the relay
   * from starting.
   *
   * @param wallClock milliseconds since the epoch
   * @throws CertificateError
   */
  static async load(files: TlsFiles, wallClock = Date.now): Promise<ReloadableCredentials> {
    return new ReloadableCredentials(files, wallClock, await readCredentials(files));
  }

  /** The same for files that may not exist yet. Until they can be used, TLS handshakes fail. */
  static async loadIfPresent(files: TlsFiles, wallClock = Date.now): Promise<ReloadableCredentials> {
    const credentials = new ReloadableCredentials(files, wallClock, null);
    if ((await fileFingerprint(files.certificatePath)) !== 'ENOENT')
      await credentials.reload().catch(() => undefined);
    return credentials;
  }

  /** For new connections. Open connections keep their certificate. */
  get context(): SecureContext {
    if (this.#current !== null) return this.#current.context;
    // Without a certificate, OpenSSL answers every client with the alert `handshake_failure`.
    this.#emptyContext ??= createSecureContext(CONTEXT_OPTIONS);
    return this.#emptyContext;
  }

  /** The server's own certificate; null if there is none yet. */
  get certificate(): X509Certificate | null {
    return this.#current === null ? null : new X509Certificate(this.#current.chain);
  }

  /** Null: there is no certificate yet. */
  get expiresAt(): Date | null {
    return this.#current?.expiresAt ?? null;
  }

  /** Null: there is no certificate yet. */
  get validity(): Validity | null {
    return this.#current === null ? null : validityAt(this.#current, this.#wallClock());
  }

  /** What the operator has to correct, in one sentence; null: nothing. */
  get problem(): string | null {
    return this.#validityProblem(this.#current) ?? this.#reloadProblem;
  }

  /**
   * Reads the files now. A certificate that has expired or is not valid yet does not replace a valid one.
   *
   * @throws CertificateError if they can't be used; the old certificate stays in use
   */
  async reload(): Promise<'unchanged' | 'reloaded'> {
    try {
      const fresh = await readCredentials(this.#files);
      const problem = this.#validityProblem(fresh);
      // The same certificate means the same key.
      const isUnchanged = fresh.chain === this.#current?.chain;
      const hasValid = this.#current !== null && this.#validityProblem(this.#current) === null;
      if (!isUnchanged && problem !== null && hasValid) throw new CertificateError(problem);
      this.#reloadProblem = null;
      if (isUnchanged) return 'unchanged';
      this.#current = fresh;
      return 'reloaded';
    } catch (error) {
      if (error instanceof CertificateError) this.#reloadProblem = error.message;
      throw error;
    }
  }

  /**
   * Reloads the files when they change, until `close`. Does not keep the process running.
   *
   * Polls the files, because there are too many ways to replace them for file events: in place, by a rename,
   * by a symbolic link to them or to a directory above.
   */
  watch(observer: CertificateObserver, checkIntervalMs: number = CHECK_INTERVAL_MS): void {
    this.#reportValidity(observer);
    this.#timer = setTimeout(() => {
      void this.#check(observer).then(() => {
        if (!this.#closed) this.watch(observer, checkIntervalMs);
      });
    }, checkIntervalMs).unref();
  }

  close(): void {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #validityProblem(credentials: TlsCredentials | null): string | null {
    if (credentials === null) return null;
    return validityProblem(credentials, this.#files.certificatePath, this.#wallClock());
  }

  async #check(observer: CertificateObserver): Promise<void> {
    const { keyPath, certificatePath, chainPath } = this.#files;
    const paths = [keyPath, certificatePath, chainPath ?? keyPath];
    const fingerprint = (await Promise.all(paths.map(fileFingerprint))).join(' ');
    const isStable = fingerprint === this.#lastFingerprint;
    this.#lastFingerprint = fingerprint;
    if (this.#closed || fingerprint === this.#loadedFingerprint) return;
    if (this.#current === null && fingerprint.startsWith('ENOENT')) return;
    // The files may still be being written. Incomplete files would be reported as errors.
    if (!isStable) {
      this.#failureCount = 0;
      return;
    }
    try {
      const change = await this.reload();
      this.#loadedFingerprint = fingerprint;
      if (change === 'reloaded') observer.onReloaded();
    } catch (error) {
      if (!(error instanceof CertificateError)) throw error;
      // The key and the certificate are replaced one after the other, so the error may be temporary.
      this.#failureCount += 1;
      if (this.#failureCount === 2) observer.onReloadFailed(error);
    }
  }

  /** Once a day, and when the state changes. */
  #reportValidity(observer: CertificateObserver): void {
    if (this.#current === null) return;
    const nowMs = this.#wallClock();
    const validity = validityAt(this.#current, nowMs);
    if (validity === this.#reported && Math.abs(nowMs - this.#reportedAtMs) < DAY_MS) return;
    this.#reported = validity;
    this.#reportedAtMs = nowMs;
    if (validity === 'expiring') observer.onExpiring(this.#current.expiresAt);
    else if (validity !== 'valid') observer.onInvalid(validity, this.problem ?? '');
  }
}

/** Changes when the file that `path` refers to, through all links, is modified or replaced. */
async function fileFingerprint(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await statPath(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(':');
  } catch (error) {
    return errorCode(error);
  }
}
