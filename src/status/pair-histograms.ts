import type { UsageRecord } from '../usage/record.ts';
import { Histogram } from './histogram.ts';
import { PREFIX } from './metrics.ts';

const SECONDS = [0.1, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 21_600, 86_400];
const BYTES = [1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];

/** How long pairs waited and ran, and what they moved. */
export class PairHistograms {
  readonly #waiting = new Histogram(
    `${PREFIX}waiting_seconds`,
    'Time from the coming of the first client of a pair to that of the second.',
    SECONDS,
  );
  readonly #duration = new Histogram(
    `${PREFIX}pair_duration_seconds`,
    'Time from the coming of the second client of a pair to the end of the pair.',
    SECONDS,
  );
  readonly #size = new Histogram(
    `${PREFIX}pair_size_bytes`,
    'Bytes relayed by a pair that has ended, both directions together.',
    BYTES,
  );

  /** Of a pair. Whoever had no partner was none. */
  observe({ waiting_time: waiting, total_time: total, total_bytes: bytes }: UsageRecord): void {
    if (waiting === null) return;
    this.#waiting.observe(waiting);
    // Not even by a rounding error may a sum go back.
    this.#duration.observe(Math.max(0, total - waiting));
    this.#size.observe(bytes);
  }

  add(other: PairHistograms): void {
    this.#waiting.add(other.#waiting);
    this.#duration.add(other.#duration);
    this.#size.add(other.#size);
  }

  /** In the text format of Prometheus. */
  text(): string {
    return [this.#waiting, this.#duration, this.#size].map((histogram) => histogram.text()).join('\n');
  }
}
