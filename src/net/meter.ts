import type { Pace, Pacer } from '../limits/pacer.ts';
import type { Splice, SpliceMeter } from './splice.ts';

/** Reads of the usual size would overshoot a limit of fewer bytes by a good part of it. */
const SMALL_PAIR_BYTES = 64 * 2 ** 20;

/** What is limited of a pair. Null where nothing is, so that moving bytes costs nothing for it. */
export function createMeter(
  splice: Splice,
  pacer: Pacer | null,
  pairBytes: number | null,
  usedUp: () => void,
): SpliceMeter | null {
  if (pacer === null && pairBytes === null) return null;
  return new Meter(splice, pacer, pairBytes ?? Number.POSITIVE_INFINITY, usedUp);
}

class Meter implements SpliceMeter {
  readonly wantsSmallReads: boolean;
  readonly #splice: Splice;
  readonly #pace: Pace | null;
  readonly #maxBytes: number;
  readonly #usedUp: () => void;

  constructor(splice: Splice, pacer: Pacer | null, maxBytes: number, usedUp: () => void) {
    this.wantsSmallReads = pacer?.wantsSmallReads === true || maxBytes < SMALL_PAIR_BYTES;
    this.#splice = splice;
    this.#pace = pacer?.join(splice) ?? null;
    this.#maxBytes = maxBytes;
    this.#usedUp = usedUp;
  }

  spend(bytes: number): void {
    this.#pace?.spend(bytes);
    if (this.#splice.totalBytes > this.#maxBytes) this.#usedUp();
  }

  leave(): void {
    this.#pace?.leave();
  }
}
