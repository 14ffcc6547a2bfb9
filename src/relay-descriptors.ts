import type { Logger } from 'pino';
import { Seldom } from './logging.ts';
import { DescriptorWatch } from './net/descriptor-watch.ts';
import type { Reception } from './net/reception.ts';

/** Clients that can't be accepted are logged at once, and then so often at most, in milliseconds. */
const REPORT_MS = 10_000;

/** What to do about it, by the error's code. */
const HINTS: Readonly<Record<string, string>> = {
  EMFILE: ': no open file is left; lower RELAY_MAX_CONNECTIONS or raise the limit (ulimit -n, LimitNOFILE=)',
  ENFILE: ': the whole machine has no open file left; raise its limit (sysctl fs.file-max)',
};

/** The watch over the process' descriptors, what it does to clients, and what the log says of it. */
export class RelayDescriptors {
  readonly #watch: DescriptorWatch;
  readonly #log: Logger;
  readonly #failures: Seldom;
  /** The log knows that there are none. */
  #isTold = false;

  constructor(reception: Reception, log: Logger, clock: () => number) {
    this.#log = log;
    this.#failures = new Seldom(REPORT_MS, clock);
    this.#watch = new DescriptorWatch({
      out: (code) => {
        reception.isOutOfDescriptors = true;
        this.#report(code);
        this.#isTold = true;
      },
      back: () => {
        reception.isOutOfDescriptors = false;
        if (this.#isTold) this.#log.info('there are open files again, and clients are accepted');
        this.#isTold = false;
      },
    });
  }

  start(): void {
    this.#watch.start();
  }

  /** A listener could not accept somebody, for this reason. */
  notAccepted(code: string): void {
    // The next one is to have a descriptor, if only to be turned away.
    this.#watch.look();
    if (!this.#watch.isOut) this.#report(code);
  }

  close(): void {
    this.#watch.close();
  }

  #report(code: string): void {
    this.#failures.happened((times) => {
      this.#log.warn({ code, times }, `clients could not be accepted${HINTS[code] ?? ''}`);
    });
  }
}
