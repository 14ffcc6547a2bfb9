import { setTimeout as sleep } from 'node:timers/promises';
import { at, listAt, textAt, textsAt } from './fields.ts';

/** Time between two attempts, in milliseconds. */
const RETRY_DELAY_MS = 200;

/** Time limit for a condition, in milliseconds: many scrapes and evaluations. */
const TIMEOUT_MS = 60_000;

/** A series and its value at one time. */
export interface Sample {
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

/** The HTTP API of a running Prometheus. */
export class PrometheusApi {
  readonly #url: string;

  /** @param url base URL, without a slash at its end */
  constructor(url: string) {
    this.#url = url;
  }

  /** `data` of an API response. Rejects with the error that Prometheus reports. */
  async api(path: string, parameters: Readonly<Record<string, string>> = {}): Promise<unknown> {
    const query = new URLSearchParams(parameters).toString();
    const response = await fetch(`${this.#url}/api/v1/${path}?${query}`);
    const answer: unknown = await response.json();
    if (textAt(answer, 'status') !== 'success')
      throw new Error(`${path} ${JSON.stringify(parameters)}: ${textAt(answer, 'error')}`);
    return at(answer, 'data');
  }

  /** The current samples of an expression. */
  async query(expr: string): Promise<Sample[]> {
    const data = await this.api('query', { query: expr });
    return listAt(data, 'result').map((series) => ({
      labels: textsAt(series, 'metric'),
      value: Number(textAt(series, 'value', 1)),
    }));
  }

  /** The current sum of an expression; 0 without series. */
  async sum(expr: string): Promise<number> {
    return (await this.query(expr)).reduce((sum, { value }) => sum + value, 0);
  }

  /** Repeats `ask` until `isDone` accepts its result, and returns that. Rejects with the last result after a timeout. */
  async until<T>(ask: () => Promise<T>, isDone: (answer: T) => boolean): Promise<T> {
    const deadline = performance.now() + TIMEOUT_MS;
    for (;;) {
      const answer = await ask();
      if (isDone(answer)) return answer;
      if (performance.now() > deadline)
        throw new Error(`not within ${TIMEOUT_MS} ms; last: ${JSON.stringify(answer)}`);
      await sleep(RETRY_DELAY_MS);
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
