import type { Logger } from 'pino';
import type { Config } from './config/config.ts';
import { QuotaKeeper } from './limits/quota-keeper.ts';
import type { Hub } from './net/hub.ts';
import type { Reception } from './net/reception.ts';
import type { RelayFigures } from './status/relay-figures.ts';
import type { RelayStatus } from './status/relay-status.ts';

/** What a spent quota does to clients. */
export interface QuotaHouse {
  readonly hub: Hub;
  readonly reception: Reception;
  /** Payload since the start of the process, in bytes, as it may be told. */
  readonly relayedBytes: () => number;
}

/** The quota, what it does to clients, and what the log says of it. */
export class RelayQuota {
  readonly #keeper: QuotaKeeper;

  /** @throws QuotaFileError where what was used before can't be known */
  constructor(
    quota: NonNullable<Config['quota']>,
    { hub, reception, relayedBytes }: QuotaHouse,
    log: Logger,
  ) {
    this.#keeper = new QuotaKeeper(quota, {
      relayedBytes,
      wallClock: () => Date.now(),
      warn: (percent) => log.warn({ percent, ...this.status() }, 'the quota will be spent soon'),
      spent: () => {
        log.error(this.status(), 'the quota is spent; no pair may begin until it is reset');
        reception.isOverQuota = true;
        hub.endWaits();
      },
      graceOver: () => hub.endPairs(),
      reset: () => {
        log.info(this.status(), 'the quota begins anew');
        reception.isOverQuota = false;
      },
      failed: (code) =>
        log.error({ code }, 'the quota can not be saved; a restart would forget what was used since'),
    });
    // It may be spent already.
    this.#keeper.look();
  }

  figures(): NonNullable<RelayFigures['quota']> {
    const { usedBytes, limitBytes, resetsAtMs } = this.#keeper;
    return { usedBytes, limitBytes, resetsAtMs };
  }

  status(): NonNullable<RelayStatus['quota']> {
    const { usedBytes, limitBytes, resetsAtMs } = this.figures();
    return { used_bytes: usedBytes, limit_bytes: limitBytes, resets: new Date(resetsAtMs).toISOString() };
  }

  close(): Promise<void> {
    return this.#keeper.close();
  }
}
