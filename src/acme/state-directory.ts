import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, mkdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AcmeConfig } from '../config/acme-config.ts';
import type { TlsFiles } from '../config/endpoint.ts';
import { UNFINISHED_SUFFIX, replaceDurably } from '../process/durable-file.ts';
import { StartupError, errorCode } from '../process/errors.ts';
import type { ChallengeType, IssuedCertificate } from './order-messages.ts';

/** The directory of `RELAY_ACME_STATE` can't be used. */
export class AcmeStateError extends StartupError {}

/** Keys are readable for the user of the relay only. */
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;

/** Time after which the lock of a relay that has crashed is ignored, and between its renewals, in milliseconds. */
const LOCK_TIMEOUT_MS = 60_000;
const LOCK_RENEWAL_MS = 10_000;

/** Larger than any file in the directory, in bytes. */
const MAX_FILE_BYTES = 2 ** 20;

/** The orders so far. They survive restarts, so that a relay that crashes does not exceed the CA's limits. */
export interface OrderHistory {
  /** The CA of the certificate; null: none. */
  readonly issuedBy: string | null;
  /** Failed orders in a row. */
  readonly failures: number;
  /** No order before this, in milliseconds since the epoch. */
  readonly retryAtMs: number;
  /** How the next order proves the control of the domains. */
  readonly challengeType: ChallengeType;
}

const NO_ORDERS: OrderHistory = {
  issuedBy: null,
  failures: 0,
  retryAtMs: 0,
  challengeType: 'tls-alpn-01',
};

/** The files that are kept over restarts: the account, the certificate with its key, and the order history. */
export class StateDirectory {
  readonly #path: string;
  readonly #config: AcmeConfig;

  private constructor(config: AcmeConfig) {
    this.#path = config.statePath;
    this.#config = config;
  }

  /**
   * Creates the directory if there is none, but not those above it.
   *
   * @throws AcmeStateError
   */
  static async open(config: AcmeConfig): Promise<StateDirectory> {
    const path = config.statePath;
    try {
      await createDirectory(path);
      await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
      return new StateDirectory(config);
    } catch (error) {
      throw new AcmeStateError(
        `can't keep certificates in "${path}" (${errorCode(error)}): ` +
          'it must be a directory that the relay may write; RELAY_ACME_STATE names another one',
        { cause: error },
      );
    }
  }

  /** The certificate, its chain and its key. One file, so that a crash can't leave a key of another certificate. */
  get files(): TlsFiles {
    const path = join(this.#path, 'certificate.pem');
    return { keyPath: path, certificatePath: path, chainPath: null };
  }

  async saveCertificate({ chain, key }: IssuedCertificate): Promise<void> {
    await replaceDurably(this.files.certificatePath, `${key.trim()}\n${chain.trim()}\n`, FILE_MODE);
  }

  /** The key of the account at the CA, as PEM. Null: there is none for this CA. */
  async readAccountKey(): Promise<string | null> {
    const value = await this.#read('account.json');
    const key = value?.['key'];
    return typeof key === 'string' && value?.['directory'] === this.#config.directoryUrl ? key : null;
  }

  async saveAccountKey(key: string): Promise<void> {
    await this.#write('account.json', { directory: this.#config.directoryUrl, key });
  }

  /** An empty history if the CA or the domains are others than before. */
  async readHistory(): Promise<OrderHistory> {
    const value = await this.#read('orders.json');
    if (value === null) return NO_ORDERS;
    const { issued_by: issuedBy, failures, retry_at: retryAt, challenge, directory, domains } = value;
    const isSameOrder =
      directory === this.#config.directoryUrl && String(domains) === String(this.#config.domains);
    const retryAtMs = Date.parse(String(retryAt));
    if (!isSameOrder || typeof failures !== 'number' || Number.isNaN(retryAtMs))
      return { ...NO_ORDERS, issuedBy: typeof issuedBy === 'string' ? issuedBy : null };
    return {
      issuedBy: typeof issuedBy === 'string' ? issuedBy : null,
      failures,
      retryAtMs,
      challengeType: challenge === 'http-01' ? challenge : 'tls-alpn-01',
    };
  }

  async saveHistory({ issuedBy, failures, retryAtMs, challengeType }: OrderHistory): Promise<void> {
    const { directoryUrl: directory, domains } = this.#config;
    await this.#write('orders.json', {
      directory,
      domains,
      issued_by: issuedBy,
      failures,
      retry_at: new Date(retryAtMs).toISOString(),
      challenge: challengeType,
    });
  }

  /**
   * Keeps other relays with the same directory from ordering. Null: one of them orders now. A relay that hangs
   * for a minute loses the lock; then both may order, which is only wasteful.
   */
  async lock(): Promise<AsyncDisposable | null> {
    const path = join(this.#path, 'lock');
    const owner = randomBytes(16).toString('hex');
    const found = await stat(path).catch(() => null);
    if (found !== null && Math.abs(Date.now() - found.mtimeMs) > LOCK_TIMEOUT_MS)
      await rm(path, { force: true });
    try {
      await writeFile(path, owner, { flag: 'wx', mode: FILE_MODE });
    } catch (error) {
      if (errorCode(error) === 'EEXIST') return null;
      throw error;
    }
    const renewal = setInterval(() => {
      const now = new Date();
      void utimes(path, now, now).catch(() => undefined);
    }, LOCK_RENEWAL_MS).unref();
    return {
      [Symbol.asyncDispose]: async () => {
        clearInterval(renewal);
        const current = await readFile(path, 'utf8').catch(() => '');
        if (current === owner) await rm(path, { force: true }).catch(() => undefined);
      },
    };
  }

  /** Null if there is no such file, or it is damaged: all of them can be created again. */
  async #read(name: string): Promise<Readonly<Record<string, unknown>> | null> {
    const path = join(this.#path, name);
    try {
      await rm(path + UNFINISHED_SUFFIX, { force: true });
      const found = await stat(path);
      if (!found.isFile() || found.size > MAX_FILE_BYTES) return null;
      const value: unknown = JSON.parse(await readFile(path, 'utf8'));
      return typeof value === 'object' && value !== null ? { ...value } : null;
    } catch {
      return null;
    }
  }

  async #write(name: string, value: object): Promise<void> {
    await replaceDurably(join(this.#path, name), `${JSON.stringify(value, null, 2)}\n`, FILE_MODE);
  }
}

async function createDirectory(path: string): Promise<void> {
  try {
    // With `recursive`, Node.js never returns if the file system answers ENOENT, like /proc.
    await mkdir(path, { mode: DIRECTORY_MODE });
    await chmod(path, DIRECTORY_MODE);
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
  }
}
