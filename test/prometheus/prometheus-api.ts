import { setTimeout as sleep } from 'node:timers/promises';
import { at, listAt, textAt, textsAt } from './fields.ts';

/** Between two questions for something that is not so yet. */
const PAUSE_MS = 200;

/** How long something may take to be so: many scrapes and evaluations, in milliseconds. */
const PATIENCE_MS = 60_000;

/** A series and its value at one time. */
export interface Sample {
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

/** What a running Prometheus says. */
export class PrometheusApi {
  readonly #url: string;

  /** @param url where it listens; without a slash at its end */
  constructor(url: string) {
    this.#url = url;
  }

  /** `data` of an answer of its HTTP API. Rejects with what it complains of. */
  async api(path: string, parameters: Readonly<Record<string, string>> = {}): Promise<unknown> {
    const query = new URLSearchParams(parameters).toString();
    const response = await fetch(`${this.#url}/api/v1/${path}?${query}`);
    const answer: unknown = await response.json();
    if (textAt(answer, 'status') !== 'success')
      throw new Error(`${path} ${JSON.stringify(parameters)}: ${textAt(answer, 'error')}`);
    return at(answer, 'data');
  }

  /** What an expression is now. */
  async query(expr: string): Promise<Sample[]> {
    const data = await this.api('query', { query: expr });
    return listAt(data, 'result').map((series) => ({
      labels: textsAt(series, 'metric'),
      value: Number(textAt(series, 'value', 1)),
    }));
  }

  /** The sum of its values now; 0 where there are no series. */
  async sum(expr: string): Promise<number> {
    return (await this.query(expr)).reduce((sum, { value }) => sum + value, 0);
  }

  /** Asks until the answer is what `isSo` wants, and returns it. Rejects with the last one when that takes too long. */
  async until<T>(ask: () => Promise<T>, isSo: (answer: T) => boolean): Promise<T> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const answer = await ask();
      if (isSo(answer)) return answer;
      if (performance.now() > deadline)
        throw new Error(`not within ${PATIENCE_MS} ms; last: ${JSON.stringify(answer)}`);
      await sleep(PAUSE_MS);
    }
  }

  /** Waits until the sum of an expression is that number. */
  async becomes(expr: string, expected: number): Promise<void> {
    await this.until(
      async () => ({ expr, expected, sum: await this.sum(expr) }),
      ({ sum }) => sum === expected,
    );
  }
}
