import type { WaitingStep } from '../api.ts';
import { formatDuration, formatShare } from './format.ts';
import { sum } from './usage-series.ts';

/** One bar of the distribution. */
export interface WaitingBar {
  /** `up to 1 s`, `5 s to 30 s`, `over 1 h`. */
  readonly label: string;
  readonly records: number;
  /** Of all transfers, 0 to 1. */
  readonly share: number;
}

export function waitingBars(steps: readonly WaitingStep[]): WaitingBar[] {
  const total = sum(steps.map((step) => step.records));
  return steps.map(({ at_most_seconds: most, records }, index) => {
    const least = steps[index - 1]?.at_most_seconds ?? null;
    return { label: labelOf(least, most), records, share: total === 0 ? 0 : records / total };
  });
}

function labelOf(leastSeconds: number | null, mostSeconds: number | null): string {
  if (mostSeconds === null) return leastSeconds === null ? 'any' : `over ${formatDuration(leastSeconds)}`;
  if (leastSeconds === null) return `up to ${formatDuration(mostSeconds)}`;
  return `${formatDuration(leastSeconds)} to ${formatDuration(mostSeconds)}`;
}

/** The distribution in a sentence: the shortest time that was enough for half of them, and how many that were. */
export function waitingSentence(steps: readonly WaitingStep[]): string {
  const total = sum(steps.map((step) => step.records));
  if (total === 0) return 'No transfer in this time, so nobody has waited for a partner.';
  let sofar = 0;
  for (const { at_most_seconds: most, records } of steps) {
    sofar += records;
    if (most !== null && sofar * 2 >= total)
      return `${formatShare(sofar, total)} waited at most ${formatDuration(most)} for their partner.`;
  }
  const longest = steps.findLast((step) => step.at_most_seconds !== null)?.at_most_seconds ?? 0;
  const longer =
    total - sum(steps.filter((step) => step.at_most_seconds !== null).map((step) => step.records));
  return `${formatShare(longer, total)} waited longer than ${formatDuration(longest)} for their partner.`;
}
