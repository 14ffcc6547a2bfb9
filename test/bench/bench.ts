import type { BenchPrograms } from './workshop.ts';

/** Passed to every scenario. */
export interface Bench {
  readonly programs: BenchPrograms;
  readonly quick: boolean;
  readonly rounds: number;
  /** Seconds of one measurement, after `warmUp` seconds that do not count. */
  readonly seconds: number;
  readonly warmUp: number;
  /** Prints a table or a remark. */
  readonly print: (text: string) => void;
}

/**
 * Measures every case once per round, so that load on the machine affects all cases alike.
 *
 * @returns the measurements of each case, in the order of `cases`
 */
export async function interleaved<Case, Measurement>(
  cases: readonly Case[],
  rounds: number,
  measure: (benchCase: Case) => Promise<Measurement>,
): Promise<{ readonly benchCase: Case; readonly measured: readonly Measurement[] }[]> {
  const results = cases.map((benchCase) => ({ benchCase, measured: new Array<Measurement>() }));
  for (let round = 0; round < rounds; round += 1) {
    for (const { benchCase, measured } of results) measured.push(await measure(benchCase));
  }
  return results;
}
