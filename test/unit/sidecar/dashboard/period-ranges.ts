import assert from 'node:assert/strict';
import { toPeriodRange } from '../../../../src/sidecar/dashboard/usage-periods.ts';
import type {
  BillingPeriod,
  UsagePeriod,
  UsagePeriodRange,
} from '../../../../src/sidecar/dashboard/usage-periods.ts';

/** The periods that every relay has. */
export const ROLLING_PERIODS = ['day', 'week', 'month', 'year'] as const;

/** The range of a period that exists. */
export function rangeOf(
  period: UsagePeriod,
  nowMs: number,
  billing: BillingPeriod | null = null,
): UsagePeriodRange {
  const range = toPeriodRange(period, nowMs, billing);
  assert.ok(range !== null);
  return range;
}
