import type { UsageRecord } from '../usage/record.ts';
import { PairHistograms } from './pair-histograms.ts';

/**
 * Histograms of the pairs that have ended, made of their records and of nothing else, so that what is blurred there is
 * blurred here.
 *
 * Whoever scrapes often would still see when each pair ended. So where records are blurred, a pair is told of at a
 * multiple of the blur that follows from its record: the first by which, going by that, it must have ended. Were it the first
 * after its end, a short pair that is told of late would be known to have begun just before a multiple.
 */
export class RecordHistograms {
  readonly #blurSeconds: number;
  readonly #wallClock: () => number;
  readonly #told = new PairHistograms();
  /** What is still to be told, by the multiple of the blur at which it will be: three of them, unless the clock jumps. */
  readonly #untold = new Map<number, PairHistograms>();

  /**
   * @param blurSeconds granularity of the records' start; 0: they are exact
   * @param wallClock milliseconds since the epoch
   */
  constructor(blurSeconds: number, wallClock: () => number) {
    this.#blurSeconds = blurSeconds;
    this.#wallClock = wallClock;
  }

  record(record: UsageRecord): void {
    if (this.#blurSeconds === 0) this.#told.observe(record);
    else this.#ofMultiple(this.#dueAt(record)).observe(record);
  }

  /** In the text format of Prometheus. */
  text(): string {
    this.#tell();
    return this.#told.text();
  }

  #ofMultiple(multiple: number): PairHistograms {
    const known = this.#untold.get(multiple);
    if (known !== undefined) return known;
    // As seldom as a new one comes, those that are over are taken in, though nobody asks for them.
    this.#tell();
    const made = new PairHistograms();
    this.#untold.set(multiple, made);
    return made;
  }

  #dueAt({ started, total_time: total }: UsageRecord): number {
    const multiple = Math.ceil((started + total) / this.#blurSeconds) + 1;
    // After a jump of the clock it may lie in the past. What is told at once would tell the end.
    return Math.max(multiple, this.#multipleNow() + 1);
  }

  #tell(): void {
    const now = this.#multipleNow();
    for (const [multiple, histograms] of this.#untold) {
      if (multiple > now) continue;
      this.#told.add(histograms);
      this.#untold.delete(multiple);
    }
  }

  #multipleNow(): number {
    return this.#blurSeconds === 0 ? 0 : Math.floor(this.#wallClock() / 1000 / this.#blurSeconds);
  }
}
