/** Values of several rounds. */
export class Samples {
  readonly #sorted: readonly number[];

  constructor(values: readonly number[]) {
    this.#sorted = values.toSorted((a, b) => a - b);
  }

  get median(): number {
    const middle = (this.#sorted.length - 1) / 2;
    return (this.#at(Math.floor(middle)) + this.#at(Math.ceil(middle))) / 2;
  }

  get minimum(): number {
    return this.#at(0);
  }

  get maximum(): number {
    return this.#at(this.#sorted.length - 1);
  }

  /** `median (minimum–maximum)` */
  format(digits: number): string {
    const [median, minimum, maximum] = [this.median, this.minimum, this.maximum].map((value) =>
      value.toFixed(digits),
    );
    return `${median} (${minimum}–${maximum})`;
  }

  #at(index: number): number {
    return this.#sorted[index] ?? Number.NaN;
  }
}

/** `value` in units of `base`, as `1.23×`; a dash without a base. */
export function ratio(value: number, base: number | undefined): string {
  return base === undefined || base === 0 || !Number.isFinite(base) ? '–' : `${(value / base).toFixed(2)}×`;
}

/** A Markdown table, aligned for reading as plain text. */
export function formatTable(
  title: string,
  header: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const lines = [header, ...rows];
  const widths = header.map((_, column) => Math.max(3, ...lines.map((line) => line[column]?.length ?? 0)));
  const format = (line: readonly string[]): string =>
    `| ${widths.map((width, column) => (line[column] ?? '').padEnd(width)).join(' | ')} |`;
  const rule = `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`;
  return [`### ${title}`, '', format(header), rule, ...rows.map(format), ''].join('\n');
}
