import type uPlot from './uplot.js';
import { readColour } from './dom.ts';

export const AXIS_FONT = '12px system-ui, sans-serif';

/** Of one character of the axis font, roughly, in CSS pixels. */
const CHARACTER_PX = 7;

const AXIS_GAP_PX = 14;

/** What no chart of this page has: uPlot's own legend, its crosshair, and zooming by a drag. */
export const BASE_CHART_OPTIONS = {
  legend: { show: false },
  select: { show: false, left: 0, top: 0, width: 0, height: 0 },
} satisfies Partial<uPlot.Options>;

/** The colours are asked for with every drawing: they change with the colour scheme. */
export function axisStyle(): uPlot.Axis {
  return {
    stroke: () => readColour('--text-soft'),
    font: AXIS_FONT,
    grid: { stroke: () => readColour('--grid'), width: 1 },
    ticks: { show: false },
    border: { show: false },
  };
}

/** How wide an axis has to be for its longest label, in CSS pixels. */
export function axisWidth(labels: readonly string[] | null): number {
  return Math.max(0, ...(labels ?? []).map((label) => label.length)) * CHARACTER_PX + AXIS_GAP_PX;
}

/** Calls when the size of `holder` or the colour scheme has changed. */
export function onResizeOrRecolour(holder: HTMLElement, resized: () => void, recoloured: () => void): void {
  new ResizeObserver(resized).observe(holder);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', recoloured);
}
