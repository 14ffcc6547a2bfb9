import { createPlot, yScale } from './charts.ts';
import { readColour } from './dom.ts';
import { formatBytes, formatMinute } from './format.ts';
import { HISTORY_S } from './rate-history.ts';
import type { RateHistory } from './rate-history.ts';
import uPlot from './uplot.js';

const HEADROOM = 1.15;

const AXIS_FONT = '12px system-ui, sans-serif';

/** Approximate width of a character of the axis font, in CSS pixels. */
const CHARACTER_PX = 7;

/** Allowed steps between two times on the axis, in seconds. */
const TIME_INCREMENTS = [600, 900, 1200, 1800];

const NO_DATA = 'no data';

/** Gaps at least this wide are labelled, in CSS pixels. */
const MIN_LABELLED_GAP_PX = 60;

/** The rate of the last hour. Times without a known rate are shaded. */
export class LiveChart {
  readonly #plot: uPlot;
  #nowSeconds = 0;

  /** @param onPoint called with the point under the pointer; null if there is none */
  constructor(
    container: HTMLElement,
    onPoint: (point: { readonly timeSeconds: number; readonly rate: number } | null) => void,
  ) {
    const axis: uPlot.Axis = {
      stroke: () => readColour('--text-soft'),
      font: AXIS_FONT,
      ticks: { show: false },
      border: { show: false },
    };
    this.#plot = createPlot(container, {
      padding: [8, 8, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 } },
      scales: {
        x: { range: () => [this.#nowSeconds - HISTORY_S, this.#nowSeconds] },
        y: yScale(HEADROOM),
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          incrs: TIME_INCREMENTS,
          space: 64,
          size: 26,
          values: (plot, splits) => splits.map((split) => timeLabel(plot, split)),
        },
        {
          ...axis,
          grid: { stroke: () => readColour('--grid'), width: 1 },
          space: 26,
          size: (_plot, labels) =>
            Math.max(0, ...(labels ?? []).map((label) => label.length)) * CHARACTER_PX + 10,
          values: (plot, splits) => splits.map((split) => (hasRates(plot) ? `${formatBytes(split)}/s` : '')),
        },
      ],
      series: [
        {},
        {
          scale: 'y',
          width: 2,
          stroke: () => readColour('--accent'),
          fill: areaGradient,
          points: { show: false },
        },
      ],
      hooks: {
        drawAxes: [shadeGaps],
        setCursor: [
          ({ cursor: { idx, left = -1 }, data: [times, rates] }) => {
            const timeSeconds = left < 0 ? undefined : times[idx ?? -1];
            const rate = rates?.[idx ?? -1];
            onPoint(timeSeconds === undefined || typeof rate !== 'number' ? null : { timeSeconds, rate });
          },
        ],
      },
    });
  }

  /** Draws the history; `nowSeconds` is the right edge. */
  show({ times, rates }: RateHistory, nowSeconds: number): void {
    this.#nowSeconds = nowSeconds;
    this.#plot.setData([times, rates]);
  }
}

/** Half the width of a time on the axis, in CSS pixels. */
const HALF_LABEL_PX = 18;

/** `05:20`; empty if it would overlap the labels of the other axis or the edge. */
function timeLabel(plot: uPlot, timeSeconds: number): string {
  const position = plot.valToPos(timeSeconds, 'x');
  const width = plot.bbox.width / uPlot.pxRatio;
  const fits = position >= HALF_LABEL_PX && position <= width - HALF_LABEL_PX / 2;
  return fits ? formatMinute(timeSeconds * 1000) : '';
}

function hasRates({ data: [, rates = []] }: uPlot): boolean {
  return rates.some((rate) => (rate ?? 0) > 0);
}

/** From a tint of the accent colour at the top to transparent at the bottom. */
function areaGradient({ bbox, ctx }: uPlot): CanvasGradient {
  const gradient = ctx.createLinearGradient(0, bbox.top, 0, bbox.top + bbox.height);
  gradient.addColorStop(0, readColour('--accent-tint'));
  gradient.addColorStop(1, readColour('--accent-fade'));
  return gradient;
}

/** Shades times without a known rate. Before the first one, the sidecar did not run; this is no outage. */
function shadeGaps(plot: uPlot): void {
  const { ctx, bbox, data } = plot;
  const [times, rates = []] = data;
  const right = bbox.left + bbox.width;
  const position = (timeSeconds: number): number =>
    Math.min(right, Math.max(bbox.left, plot.valToPos(timeSeconds, 'x', true)));
  const first = rates.findIndex((rate) => typeof rate === 'number');
  ctx.save();
  ctx.font = `${12 * uPlot.pxRatio}px system-ui, sans-serif`;
  ctx.textAlign = 'center';
  ctx.textBaseline = 'middle';
  const markGap = (gapLeft: number, gapRight: number, isOutage: boolean): void => {
    const width = gapRight - gapLeft;
    ctx.fillStyle = readColour('--grid');
    if (isOutage) ctx.fillRect(gapLeft, bbox.top, width, bbox.height);
    if (width < MIN_LABELLED_GAP_PX * uPlot.pxRatio) return;
    const [middle, height] = [gapLeft + width / 2, bbox.top + bbox.height / 2];
    const textWidth = ctx.measureText(NO_DATA).width + 12 * uPlot.pxRatio;
    // Hides the grid line behind the text.
    ctx.fillStyle = readColour(isOutage ? '--grid' : '--card');
    ctx.fillRect(middle - textWidth / 2, height - 10 * uPlot.pxRatio, textWidth, 20 * uPlot.pxRatio);
    ctx.fillStyle = readColour('--text-soft');
    ctx.fillText(NO_DATA, middle, height);
  };
  markGap(bbox.left, first < 0 ? right : position(times[first] ?? 0), false);
  let gapLeft: number | null = null;
  for (const [index, time] of times.entries()) {
    if (index <= first || first < 0) continue;
    if (typeof rates[index] !== 'number') gapLeft ??= position(times[index - 1] ?? time);
    else if (gapLeft !== null) {
      markGap(gapLeft, position(time), true);
      gapLeft = null;
    }
  }
  if (gapLeft !== null) markGap(gapLeft, right, true);
  ctx.restore();
}
