import { Histogram, Registry } from 'prom-client';
import type { UsageRecord } from '../usage/record.ts';
import { PREFIX } from './metrics.ts';

const SECONDS = [0.1, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 21_600, 86_400];
const BYTES = [1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];

/**
 * Histograms of the pairs that have ended, made of their records and of nothing else, so that what is blurred there is
 * blurred here.
 *
 * Whoever scrapes often would still see when each pair ended. So where records are blurred, these figures stand still and change at
 * multiples of the blur alone.
 */
export class RecordHistograms {
  readonly #blurSeconds: number;
  readonly #wallClock: () => number;
  readonly #registry = new Registry();
  readonly #waiting: Histogram;
  readonly #duration: Histogram;
  readonly #size: Histogram;
  #window: number;
  /** As it was when the window began. */
  #published: Promise<string>;

  /**
   * @param blurSeconds granularity of the records' start; 0: they are exact
   * @param wallClock milliseconds since the epoch
   */
  constructor(blurSeconds: number, wallClock: () => number) {
    this.#blurSeconds = blurSeconds;
    this.#wallClock = wallClock;
    this.#waiting = this.#histogram(
      'waiting_seconds',
      'Time from the coming of the first client of a pair to that of the second.',
      SECONDS,
    );
    this.#duration = this.#histogram(
      'pair_duration_seconds',
      'Time from the coming of the second client of a pair to the end of the pair.',
      SECONDS,
    );
    this.#size = this.#histogram(
      'pair_size_bytes',
      'Bytes relayed by a pair that has ended, both directions together.',
      BYTES,
    );
    this.#window = this.#windowNow();
    this.#published = this.#registry.metrics();
  }

  record({ waiting_time: waiting, total_time: total, total_bytes: bytes }: UsageRecord): void {
    this.#turn();
    // Whoever had no partner was no pair.
    if (waiting === null) return;
    this.#waiting.observe(waiting);
    this.#duration.observe(total - waiting);
    this.#size.observe(bytes);
  }

  /** In the text format of Prometheus. */
  text(): Promise<string> {
    this.#turn();
    return this.#blurSeconds === 0 ? this.#registry.metrics() : this.#published;
  }

  #turn(): void {
    const window = this.#windowNow();
    if (window === this.#window) return;
    this.#window = window;
    // The registry looks at its figures before it returns, so that what comes next is not in there.
    this.#published = this.#registry.metrics();
  }

  #windowNow(): number {
    return this.#blurSeconds === 0 ? 0 : Math.floor(this.#wallClock() / 1000 / this.#blurSeconds);
  }

  #histogram(name: string, help: string, buckets: number[]): Histogram {
    return new Histogram({ name: PREFIX + name, help, buckets, registers: [this.#registry] });
  }
}
