import type uPlot from './uplot.js';
import { readColour } from './dom.ts';

export const AXIS_FONT = '12px system-ui, sans-serif';

/** Approximate width of a character of the axis font, in CSS pixels. */
const CHARACTER_PX = 7;

const AXIS_GAP_PX = 14;

/** Disables uPlot's own legend, its crosshair, and zooming. */
export const BASE_CHART_OPTIONS = {
  legend: { show: false },
  select: { show: false, left: 0, top: 0, width: 0, height: 0 },
} satisfies Partial<uPlot.Options>;

/** The colours are read for each drawing, because they change with the colour scheme. */
export function axisStyle(): uPlot.Axis {
  return {
    stroke: () => readColour('--text-soft'),
    font: AXIS_FONT,
    grid: { stroke: () => readColour('--grid'), width: 1 },
    ticks: { show: false },
    border: { show: false },
  };
}

/** Width of an axis for its longest label, in CSS pixels. */
export function axisWidth(labels: readonly string[] | null): number {
  return Math.max(0, ...(labels ?? []).map((label) => label.length)) * CHARACTER_PX + AXIS_GAP_PX;
}

/** Calls `onResize` when the size of `container` has changed, and `onRecolour` when the colour scheme has. */
export function onResizeOrRecolour(
  container: HTMLElement,
  onResize: () => void,
  onRecolour: () => void,
): void {
  new ResizeObserver(onResize).observe(container);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', onRecolour);
}
