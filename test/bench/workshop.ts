import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeIdentity } from '../support/certificates.ts';

const LOAD_SOURCES = join(import.meta.dirname, 'load');

const OPENSSL = ['-lssl', '-lcrypto'];

/** The compiled C programs, and a temporary directory. */
export class BenchPrograms implements Disposable {
  readonly directory: string;
  readonly load: string;
  readonly epollForwarder: string;
  readonly epollRelay: string;
  readonly delayLine: string;
  /** Null if OpenSSL's headers are missing. The generator has no TLS then. */
  readonly opensslForwarder: string | null;
  /** ECDSA P-256, used by every peer with TLS. */
  readonly certificate: { readonly keyPath: string; readonly certificatePath: string };
  readonly #remove: () => void;

  /** @param compiler the path of a C compiler */
  constructor(compiler: string) {
    this.directory = mkdtempSync(join(tmpdir(), 'relay-bench-'));
    this.#remove = () => rmSync(this.directory, { recursive: true, force: true });
    process.once('exit', this.#remove);
    this.load = join(this.directory, 'load');
    this.epollForwarder = join(this.directory, 'epoll-forwarder');
    this.epollRelay = join(this.directory, 'epoll-relay');
    this.delayLine = join(this.directory, 'delay-line');
    this.certificate = {
      keyPath: join(this.directory, 'key.pem'),
      certificatePath: join(this.directory, 'certificate.pem'),
    };
    const identity = makeIdentity();
    writeFileSync(this.certificate.keyPath, identity.key);
    writeFileSync(this.certificate.certificatePath, identity.certificate);
    const compile = (output: string, sources: readonly string[], flags: readonly string[] = []): void => {
      execFileSync(compiler, ['-O2', '-Wall', '-Wextra', '-pthread', '-o', output, ...sources, ...flags]);
    };
    const hasOpenssl = compiles(compiler, '#include <openssl/ssl.h>\n');
    const loadSources = readdirSync(LOAD_SOURCES).filter((name) => name.endsWith('.c'));
    compile(
      this.load,
      loadSources.map((name) => join(LOAD_SOURCES, name)),
      hasOpenssl ? ['-DWITH_TLS', ...OPENSSL] : [],
    );
    compile(this.epollForwarder, [join(import.meta.dirname, 'epoll-forwarder.c')]);
    compile(this.epollRelay, [join(import.meta.dirname, 'epoll-relay.c')]);
    compile(this.delayLine, [join(import.meta.dirname, 'delay-line.c')]);
    this.opensslForwarder = hasOpenssl ? join(this.directory, 'openssl-forwarder') : null;
    if (this.opensslForwarder !== null) {
      compile(this.opensslForwarder, [join(import.meta.dirname, 'openssl-forwarder.c')], OPENSSL);
    }
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#remove);
    this.#remove();
  }
}

function compiles(compiler: string, source: string): boolean {
  try {
    execFileSync(compiler, ['-fsyntax-only', '-x', 'c', '-'], {
      input: source,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    return true;
  } catch {
    return false;
  }
}
