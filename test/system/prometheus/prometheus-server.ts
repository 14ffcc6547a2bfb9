import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { Program, findProgram } from '../../support/programs.ts';
import { PrometheusApi } from './prometheus-api.ts';

const PROMETHEUS = findProgram('prometheus');

/** Reason to skip tests with a real Prometheus; false if it is installed. */
export const withoutPrometheus = PROMETHEUS === null ? 'needs Prometheus: apt-get install prometheus' : false;

/** A real Prometheus with its own configuration, on a free loopback port. */
export class PrometheusServer extends PrometheusApi implements AsyncDisposable {
  readonly #program: Program;

  private constructor(program: Program, url: string) {
    super(url);
    this.#program = program;
  }

  /**
   * Starts Prometheus and waits until it is ready.
   *
   * @param directory an empty directory for its files
   * @param files prometheus.yml and the files that it refers to, by name
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

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program[Symbol.asyncDispose]();
  }
}
