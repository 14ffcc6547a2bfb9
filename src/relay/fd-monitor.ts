import type { Logger } from 'pino';
import { FdReserve } from '../limits/fd-reserve.ts';
import { LogThrottle } from '../process/logging.ts';
import type { AdmissionControl } from '../sessions/admission-control.ts';

/** Clients that can't be accepted are logged at once, and then so often at most, in milliseconds. */
const LOG_INTERVAL_MS = 10_000;

/** What to do about it, by the error's code. */
const HINTS: Readonly<Record<string, string>> = {
  EMFILE:
    ': no file descriptors left; lower RELAY_MAX_CONNECTIONS or raise the limit (ulimit -n, LimitNOFILE=)',
  ENFILE: ': the host has no file descriptors left; raise its limit (sysctl fs.file-max)',
};

/** The watch over the process' descriptors, what it does to clients, and what the log says of it. */
export class FdMonitor {
  readonly #reserve: FdReserve;
  readonly #log: Logger;
  readonly #logThrottle: LogThrottle;
  /** The log knows that there are none. */
  #isLogged = false;

  constructor(admission: AdmissionControl, log: Logger, clock: () => number) {
    this.#log = log;
    this.#logThrottle = new LogThrottle(LOG_INTERVAL_MS, clock);
    this.#reserve = new FdReserve({
      onExhausted: (code) => {
        admission.isOutOfDescriptors = true;
        this.#report(code);
        this.#isLogged = true;
      },
      onRecovered: () => {
        admission.isOutOfDescriptors = false;
        if (this.#isLogged) this.#log.info('file descriptors available again; accepting clients');
        this.#isLogged = false;
      },
    });
  }

  start(): void {
    this.#reserve.start();
  }

  /** A listener could not accept somebody, for this reason. */
  onAcceptError(code: string): void {
    // The next one is to have a descriptor, if only to be turned away.
    this.#reserve.check();
    if (!this.#reserve.isExhausted) this.#report(code);
  }

  close(): void {
    this.#reserve.close();
  }

  #report(code: string): void {
    this.#logThrottle.log((times) => {
      this.#log.warn({ code, times }, `accepting clients failed${HINTS[code] ?? ''}`);
    });
  }
}
