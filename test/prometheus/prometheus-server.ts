import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { Program, findProgram } from '../support/programs.ts';
import { at, listAt, textAt, textsAt } from './fields.ts';

const PROMETHEUS = findProgram('prometheus');

/** Why there can be no test with a real Prometheus here; false where there can. */
export const withoutPrometheus = PROMETHEUS === null ? 'needs Prometheus: apt-get install prometheus' : false;

/** Between two questions for something that is not so yet. */
const PAUSE_MS = 200;

/** How long something may take to be so: many scrapes and evaluations, in milliseconds. */
const PATIENCE_MS = 30_000;

/** A series and its value at one time. */
export interface Sample {
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

/** A real Prometheus with a configuration of its own, on a free port of the loopback. */
export class PrometheusServer implements AsyncDisposable {
  readonly #program: Program;
  readonly #url: string;

  private constructor(program: Program, url: string) {
    this.#program = program;
    this.#url = url;
  }

  /**
   * Starts it and waits until it answers.
   *
   * @param directory an empty one, for its files
   * @param files its prometheus.yml, and what that names, by their names
   */
  static async start(directory: string, files: Readonly<Record<string, unknown>>): Promise<PrometheusServer> {
    for (const [name, content] of Object.entries(files))
      await writeFile(join(directory, name), typeof content === 'string' ? content : stringify(content));
    await mkdir(join(directory, 'data'));
    const program = new Program([
      PROMETHEUS ?? '',
      `--config.file=${join(directory, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      '--web.listen-address=127.0.0.1:0',
    ]);
    try {
      const [, address = ''] = await program.waitForOutput(/msg="Listening on" address=(\S+)/u);
      await program.waitForOutput(/Server is ready to receive web requests/u);
      return new PrometheusServer(program, `http://${address}`);
    } catch (error) {
      await program[Symbol.asyncDispose]();
      throw error;
    }
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
        throw new Error(`not within ${PATIENCE_MS} ms: ${isSo.toString()}; last: ${JSON.stringify(answer)}`);
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

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program[Symbol.asyncDispose]();
  }
}
