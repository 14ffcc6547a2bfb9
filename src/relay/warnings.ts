import type { Log } from '../process/logging.ts';
import type { OperatorWarning } from '../status/relay-status.ts';

interface RaisedWarning extends OperatorWarning {
  /** Monotonic clock, milliseconds; infinite: until it is cleared. */
  readonly expiresAt: number;
}

/** Current problems that the operator should act on. Each part of the relay raises its own and clears them. */
export class Warnings {
  readonly #clock: () => number;
  /** By event, or by event and subject. */
  readonly #raised = new Map<string, RaisedWarning>();

  /**
   * @param clock milliseconds of a monotonic clock
   * @param permanent warnings that stay until a restart, such as those of the configuration
   */
  constructor(clock: () => number, permanent: readonly OperatorWarning[] = []) {
    this.#clock = clock;
    permanent.forEach(({ event, message }, index) => this.raise(event, message, { subject: String(index) }));
  }

  /** In the order in which they were first raised. */
  get current(): readonly OperatorWarning[] {
    const now = this.#clock();
    return [...this.#raised.values()]
      .filter(({ expiresAt }) => now < expiresAt)
      .map(({ event, message }) => ({ event, message }));
  }

  /**
   * Raises a warning, or replaces its message.
   *
   * @param subject distinguishes warnings of the same event, for example of several certificates
   * @param forMs after this time it is no longer current; otherwise it lasts until it is cleared
   */
  raise(
    event: string,
    message: string,
    { subject = '', forMs = Number.POSITIVE_INFINITY }: { subject?: string; forMs?: number } = {},
  ): void {
    this.#raised.set(keyOf(event, subject), { event, message, expiresAt: this.#clock() + forMs });
  }

  clear(event: string, subject = ''): void {
    this.#raised.delete(keyOf(event, subject));
  }

  /**
   * A log whose warnings and errors are raised, too, with their messages.
   *
   * @param forMs as for `raise`
   */
  raising(log: Log, forMs?: number): Log {
    const options = forMs === undefined ? {} : { forMs };
    return {
      debug: (fields, message) => log.debug(fields, message),
      info: (fields, message) => log.info(fields, message),
      warn: (fields, message) => {
        log.warn(fields, message);
        this.raise(fields.event, message, options);
      },
      error: (fields, message) => {
        log.error(fields, message);
        this.raise(fields.event, message, options);
      },
      fatal: (fields, message) => log.fatal(fields, message),
    };
  }
}

function keyOf(event: string, subject: string): string {
  return `${event} ${subject}`;
}
