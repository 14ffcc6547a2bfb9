import type { UsageRecord } from '../usage/record.ts';

/** Counts of values by their size, as Prometheus has them. Unlike prom-client's own, one can be added to another. */
export class MergeableHistogram {
  readonly #name: string;
  readonly #help: string;
  readonly #bounds: readonly number[];
  /** For each bound the values up to it that are above the one before, and at last those above all. */
  readonly #counts: number[];
  #sum = 0;

  /** @param bounds upper ones, the least first */
  constructor(name: string, help: string, bounds: readonly number[]) {
    this.#name = name;
    this.#help = help;
    this.#bounds = bounds;
    this.#counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(value: number): void {
    this.#count(this.#bounds.filter((bound) => bound < value).length, 1);
    this.#sum += value;
  }

  /** @param other has the same bounds */
  add(other: MergeableHistogram): void {
    other.#counts.forEach((count, index) => this.#count(index, count));
    this.#sum += other.#sum;
  }

  /** In the text format of Prometheus, where a bucket has all smaller ones too. */
  render(): string {
    let total = 0;
    const buckets = this.#counts.map((count, index) => {
      total += count;
      return `${this.#name}_bucket{le="${this.#bounds[index] ?? '+Inf'}"} ${total}`;
    });
    const head = [`# HELP ${this.#name} ${this.#help}`, `# TYPE ${this.#name} histogram`];
    return [...head, ...buckets, `${this.#name}_sum ${this.#sum}`, `${this.#name}_count ${total}`, ''].join(
      '\n',
    );
  }

  #count(index: number, more: number): void {
    this.#counts[index] = (this.#counts[index] ?? 0) + more;
  }
}

const DURATION_BUCKETS_SECONDS = [0.1, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 21_600, 86_400];
const SIZE_BUCKETS_BYTES = [1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];

/** How long pairs waited and ran, and what they moved. */
export class PairHistograms {
  readonly #waiting = new MergeableHistogram(
    'transit_relay_waiting_seconds',
    'Time from the coming of the first client of a pair to that of the second.',
    DURATION_BUCKETS_SECONDS,
  );
  readonly #duration = new MergeableHistogram(
    'transit_relay_pair_duration_seconds',
    'Time from the coming of the second client of a pair to the end of the pair.',
    DURATION_BUCKETS_SECONDS,
  );
  readonly #size = new MergeableHistogram(
    'transit_relay_pair_size_bytes',
    'Bytes relayed by a pair that has ended, both directions together.',
    SIZE_BUCKETS_BYTES,
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
  render(): string {
    return [this.#waiting, this.#duration, this.#size].map((histogram) => histogram.render()).join('\n');
  }
}

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
  readonly #published = new PairHistograms();
  /** What is still to be told, by the multiple of the blur at which it will be: three of them, unless the clock jumps. */
  readonly #unpublished = new Map<number, PairHistograms>();

  /**
   * @param blurSeconds granularity of the records' start; 0: they are exact
   * @param wallClock milliseconds since the epoch
   */
  constructor(blurSeconds: number, wallClock: () => number) {
    this.#blurSeconds = blurSeconds;
    this.#wallClock = wallClock;
  }

  record(record: UsageRecord): void {
    if (this.#blurSeconds === 0) this.#published.observe(record);
    else this.#histogramsFor(this.#publishMultiple(record)).observe(record);
  }

  /** In the text format of Prometheus. */
  render(): string {
    this.#publishDue();
    return this.#published.render();
  }

  #histogramsFor(multiple: number): PairHistograms {
    const known = this.#unpublished.get(multiple);
    if (known !== undefined) return known;
    // As seldom as a new one comes, those that are over are taken in, though nobody asks for them.
    this.#publishDue();
    const made = new PairHistograms();
    this.#unpublished.set(multiple, made);
    return made;
  }

  #publishMultiple({ started, total_time: total }: UsageRecord): number {
    const multiple = Math.ceil((started + total) / this.#blurSeconds) + 1;
    // After a jump of the clock it may lie in the past. What is told at once would tell the end.
    return Math.max(multiple, this.#currentMultiple() + 1);
  }

  #publishDue(): void {
    const now = this.#currentMultiple();
    for (const [multiple, histograms] of this.#unpublished) {
      if (multiple > now) continue;
      this.#published.add(histograms);
      this.#unpublished.delete(multiple);
    }
  }

  #currentMultiple(): number {
    return this.#blurSeconds === 0 ? 0 : Math.floor(this.#wallClock() / 1000 / this.#blurSeconds);
  }
}
