import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const LOAD_SOURCES = join(import.meta.dirname, 'load');

/** The programs in C, compiled on the spot, and a directory for whatever else is needed for a while. */
export class Workshop implements Disposable {
  readonly directory: string;
  readonly load: string;
  readonly epollForwarder: string;
  readonly #remove: () => void;

  /** @param compiler the path of a C compiler */
  constructor(compiler: string) {
    this.directory = mkdtempSync(join(tmpdir(), 'relay-bench-'));
    this.#remove = () => rmSync(this.directory, { recursive: true, force: true });
    process.once('exit', this.#remove);
    this.load = join(this.directory, 'load');
    this.epollForwarder = join(this.directory, 'epoll-forwarder');
    const compile = (output: string, sources: readonly string[]): void => {
      execFileSync(compiler, ['-O2', '-Wall', '-Wextra', '-pthread', '-o', output, ...sources]);
    };
    const loadSources = readdirSync(LOAD_SOURCES).filter((name) => name.endsWith('.c'));
    compile(
      this.load,
      loadSources.map((name) => join(LOAD_SOURCES, name)),
    );
    compile(this.epollForwarder, [join(import.meta.dirname, 'epoll-forwarder.c')]);
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#remove);
    this.#remove();
  }
}
