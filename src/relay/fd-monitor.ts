import type { Logger } from 'pino';
import { FdReserve } from '../limits/fd-reserve.ts';
import { LogThrottle } from '../process/logging.ts';
import type { AdmissionControl } from '../sessions/admission-control.ts';

/** Minimum time between two log lines about failed accepts, in milliseconds. */
const LOG_INTERVAL_MS = 10_000;

/** What the operator can do, by error code. */
const HINTS: Readonly<Record<string, string>> = {
  EMFILE:
    ': no file descriptors left; lower RELAY_MAX_CONNECTIONS or raise the limit (ulimit -n, LimitNOFILE=)',
  ENFILE: ': the host has no file descriptors left; raise its limit (sysctl fs.file-max)',
};

/** Rejects clients while the process has no file descriptors left, and logs it. */
export class FdMonitor {
  readonly #reserve: FdReserve;
  readonly #log: Logger;
  readonly #logThrottle: LogThrottle;
  /** The log says that there are none. */
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

  /** A listener failed to accept a connection, with this error code. */
  onAcceptError(code: string): void {
    // So that the next connection has a file descriptor, if only to be rejected.
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
