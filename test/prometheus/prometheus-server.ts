import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { Program, findProgram } from '../support/programs.ts';
import { PrometheusApi } from './prometheus-api.ts';

const PROMETHEUS = findProgram('prometheus');

/** Why there can be no test with a real Prometheus here; false where there can. */
export const withoutPrometheus = PROMETHEUS === null ? 'needs Prometheus: apt-get install prometheus' : false;

/** A real Prometheus with a configuration of its own, on a free port of the loopback. */
export class PrometheusServer extends PrometheusApi implements AsyncDisposable {
  readonly #program: Program;

  private constructor(program: Program, url: string) {
    super(url);
    this.#program = program;
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

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program[Symbol.asyncDispose]();
  }
}
