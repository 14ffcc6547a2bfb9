import type { Random } from './random.ts';

/**
 * One-way latency between two machines. It is log-normal, as in networks: mostly near the median, sometimes
 * much higher.
 */
export interface LatencyModel {
  readonly name: string;
  /** In milliseconds. */
  readonly medianMs: number;
  /** Standard deviation of the logarithm. */
  readonly sigma: number;
}

/** Relays in one data centre, and on one continent. */
export const LATENCY_MODELS: readonly LatencyModel[] = [
  { name: 'one site', medianMs: 0.1, sigma: 0.5 },
  { name: 'one continent', medianMs: 10, sigma: 0.2 },
];

/** Time for one way, in milliseconds. */
export function oneWayMs({ medianMs, sigma }: LatencyModel, random: Random): number {
  return random.logNormal(medianMs, sigma);
}
