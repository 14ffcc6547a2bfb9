/** Space above the tallest bar. */
const HEADROOM = 1.06;

/** Space above the tallest bar of a clipped scale, so that it differs from the clipped bars. */
const CLIPPED_HEADROOM = 1.25;

/** One bar in this many may be clipped, and one in any case. */
const BARS_PER_OUTLIER = 8;

/** With fewer bars, a clipped one would hide the difference that matters. */
const MIN_BARS = 4;

/** A scale is clipped if its tallest bar exceeds the tallest ordinary one by this factor. */
const CLIPPING_FACTOR = 8;

/** Ordinary bars of a clipped scale may differ by this factor; taller ones are clipped. */
const ORDINARY_FACTOR = 4;

/** A scale that starts at 0. Bars above `top` are clipped. */
export interface BarScale {
  readonly top: number;
  readonly isClipped: boolean;
}

/**
 * Chooses the scale for the bars, so that one large transfer or one port scan does not flatten all others.
 *
 * @param totals the height of each bar, 0 or more
 */
export function toBarScale(totals: readonly number[]): BarScale {
  const tallestFirst = totals.filter((total) => total > 0).toSorted((one, other) => other - one);
  const [highest = 0] = tallestFirst;
  const outliers = Math.max(1, Math.floor(tallestFirst.length / BARS_PER_OUTLIER));
  const ordinary = tallestFirst[outliers] ?? 0;
  if (tallestFirst.length < MIN_BARS || highest <= CLIPPING_FACTOR * ordinary)
    return { top: highest > 0 ? highest * HEADROOM : 1, isClipped: false };
  const tallestShown = tallestFirst.find((total) => total <= ORDINARY_FACTOR * ordinary) ?? ordinary;
  return { top: tallestShown * CLIPPED_HEADROOM, isClipped: true };
}
