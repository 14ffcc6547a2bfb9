import { METRIC_PREFIX } from '../process/process-metrics.ts';
import type { UsageRecord } from '../usage/record.ts';

/** A Prometheus histogram that can be added to another one, which prom-client's cannot. */
export class MergeableHistogram {
  readonly #name: string;
  readonly #help: string;
  readonly #bounds: readonly number[];
  /** Values per bucket, not cumulative; the last bucket has values above all bounds. */
  readonly #counts: number[];
  #sum = 0;

  /** @param bounds upper bounds in ascending order */
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

  /** @param other must have the same bounds */
  add(other: MergeableHistogram): void {
    other.#counts.forEach((count, index) => this.#count(index, count));
    this.#sum += other.#sum;
  }

  /** In the text format of Prometheus, with cumulative buckets. */
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

/** Waiting time, duration and size of pairs. */
export class PairHistograms {
  readonly #waiting = new MergeableHistogram(
    `${METRIC_PREFIX}waiting_seconds`,
    'Time between the arrival of the first and the second client of a pair.',
    DURATION_BUCKETS_SECONDS,
  );
  readonly #duration = new MergeableHistogram(
    `${METRIC_PREFIX}pair_duration_seconds`,
    'Time from pairing to the end of the pair.',
    DURATION_BUCKETS_SECONDS,
  );
  readonly #size = new MergeableHistogram(
    `${METRIC_PREFIX}pair_size_bytes`,
    'Bytes relayed by a finished pair, both directions together.',
    SIZE_BUCKETS_BYTES,
  );

  /** Adds the record of a pair. Records without a partner are ignored. */
  observe({ waiting_time: waiting, total_time: total, total_bytes: bytes }: UsageRecord): void {
    if (waiting === null) return;
    this.#waiting.observe(waiting);
    // Sums must never decrease, not even by a rounding error.
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
 * Histograms of ended pairs, computed from their usage records only, so they are as blurred as the records.
 *
 * Frequent scrapes would still reveal when each pair ended. So if records are blurred, a pair is published at a
 * multiple of the blur interval that follows from its record: the first multiple by which the pair must have
 * ended according to the record. The first multiple after the actual end would reveal more: a short pair that is
 * published late must have started just before a multiple.
 */
export class RecordHistograms {
  readonly #blurSeconds: number;
  readonly #wallClock: () => number;
  readonly #published = new PairHistograms();
  /** Unpublished pairs by multiple of the blur interval. At most three entries, unless the clock jumps. */
  readonly #unpublished = new Map<number, PairHistograms>();

  /**
   * @param blurSeconds granularity of the start times of records; 0: exact
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
    // Bounds the map even if nothing is scraped.
    this.#publishDue();
    const made = new PairHistograms();
    this.#unpublished.set(multiple, made);
    return made;
  }

  #publishMultiple({ started, total_time: total }: UsageRecord): number {
    const multiple = Math.ceil((started + total) / this.#blurSeconds) + 1;
    // After a jump of the clock it may be in the past. Publishing immediately would reveal the end of the pair.
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
