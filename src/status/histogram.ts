/** Counts of values by their size, as Prometheus has them. Unlike prom-client's own, one can be added to another. */
export class Histogram {
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
  add(other: Histogram): void {
    other.#counts.forEach((count, index) => this.#count(index, count));
    this.#sum += other.#sum;
  }

  /** In the text format of Prometheus, where a bucket has all smaller ones too. */
  text(): string {
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
