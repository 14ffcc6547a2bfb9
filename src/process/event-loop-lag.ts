import Gauge from 'prom-client/lib/gauge.js';
import type Registry from 'prom-client/lib/registry.js';

/** Adds the lag of the event loop during a scrape: the time from a callback to the next turn. */
export function addEventLoopLag(registry: Registry): void {
  const lag = new Gauge({
    name: 'nodejs_eventloop_lag_seconds',
    help: 'Lag of event loop in seconds.',
    registers: [registry],
    async collect() {
      const start = performance.now();
      await new Promise((resolve) => setImmediate(resolve));
      this.set((performance.now() - start) / 1000);
    },
  });
  lag.set(0);
}

/** Samples that are kept: those of a minute, if there are ten per second. */
const MAX_SAMPLES = 600;

/**
 * The distribution of the last samples of the event loop's lag, under the names of prom-client's default metrics.
 * Those contain the samples since the last scrape, so that each of two scrapers gets only a part of them.
 */
export class EventLoopLagSummary {
  readonly #samples = new Float64Array(MAX_SAMPLES);
  #count = 0;
  #sorted: Float64Array = this.#samples.subarray(0, 0);

  constructor(registry: Registry) {
    const add = (name: string, help: string, read: () => number): void => {
      const gauge = new Gauge({
        name: `nodejs_eventloop_lag_${name}_seconds`,
        help,
        registers: [],
        collect() {
          this.set(read());
        },
      });
      registry.registerMetric(gauge);
    };
    // The first one sorts the samples for all.
    add('min', 'The minimum recorded event loop delay.', () => {
      this.#sorted = this.#samples.slice(0, Math.min(this.#count, MAX_SAMPLES)).toSorted();
      return this.#quantile(0);
    });
    add('max', 'The maximum recorded event loop delay.', () => this.#quantile(1));
    add('mean', 'The mean of the recorded event loop delays.', () => this.#mean());
    add('stddev', 'The standard deviation of the recorded event loop delays.', () => this.#deviation());
    for (const percent of [50, 90, 99])
      add(`p${percent}`, `The ${percent}th percentile of the recorded event loop delays.`, () =>
        this.#quantile(percent / 100),
      );
  }

  /** Adds a sample. */
  observe(seconds: number): void {
    this.#samples[this.#count % MAX_SAMPLES] = seconds;
    this.#count += 1;
  }

  #quantile(share: number): number {
    return this.#sorted[Math.ceil(share * (this.#sorted.length - 1))] ?? 0;
  }

  #mean(): number {
    return average(this.#sorted);
  }

  #deviation(): number {
    const mean = this.#mean();
    return Math.sqrt(average(this.#sorted.map((seconds) => (seconds - mean) ** 2)));
  }
}

function average(values: Float64Array): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
