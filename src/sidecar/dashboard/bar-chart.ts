import { toBarScale } from './chart-scale.ts';
import type { BarScale } from './chart-scale.ts';
import { createPlot } from './charts.ts';
import { colourSwatch, createElement, readColour } from './dom.ts';
import uPlot from './uplot.js';

/** One bar, with its labels. */
export interface Bar {
  /** First line of the axis. */
  readonly label: string;
  /** Second line of the axis, shown where it changes. */
  readonly group: string;
  /** Labels that are n bars apart are at the bars whose ordinal is a multiple of n. */
  readonly ordinal: number;
  /** Of the tooltip. Empty: the bar has none. */
  readonly title: string;
  /** Further lines of the tooltip. */
  readonly notes: readonly string[];
}

/** One colour of a stack. */
export interface Layer {
  readonly name: string;
  /** CSS custom property that holds its colour. */
  readonly colour: string;
  /** A number for each bar, 0 or more. */
  readonly values: readonly number[];
}

/** A range without data, which is hatched. Bar n begins at n and ends at n + 1. */
export interface Band {
  readonly from: number;
  readonly to: number;
}

export interface BarChartData {
  readonly bars: readonly Bar[];
  /** Allowed distances between two axis labels, in bars, shortest first. */
  readonly labelSteps: readonly number[];
  /** From bottom to top. */
  readonly layers: readonly Layer[];
  /** In order, without overlaps. */
  readonly bands: readonly Band[];
}

/** In CSS pixels. */
const AXIS_FONT_PX = 12;

const FONT_FAMILY = 'system-ui, sans-serif';

const AXIS_FONT = `${AXIS_FONT_PX}px ${FONT_FAMILY}`;

/** Approximate width of a character of the axis font, in CSS pixels. */
const CHARACTER_PX = 7;

const AXIS_GAP_PX = 14;

/** Two lines of labels. */
const X_AXIS_PX = 46;

/** Minimum distance between two axis labels, in CSS pixels. */
const MIN_LABEL_DISTANCE_PX = 56;

/** Room for the values of clipped bars, in CSS pixels. */
const TOP_PADDING_PX = 20;

/** Distance between a bar and its tooltip, in CSS pixels. */
const TOOLTIP_GAP_PX = 8;

/** Allowed steps between grid lines: whole numbers only. */
const TICK_INCREMENTS = Array.from({ length: 16 }, (_, power) =>
  [1, 2, 5].map((step) => step * 10 ** power),
).flat();

/**
 * A chart of stacked bars over a period. Bar n is at n on the x scale. A tooltip shows the values of the bar
 * under the pointer; the table below the chart has them too, for users without a pointer.
 */
export class BarChart {
  readonly #plot: uPlot;
  readonly #formatValue: (value: number) => string;
  readonly #band = createElement('div', '', 'tooltip-band');
  readonly #tooltip = createElement('div', '', 'tooltip');
  #data: BarChartData = { bars: [], labelSteps: [], layers: [], bands: [] };
  #scale: BarScale = toBarScale([]);

  /**
   * @param formatTick formats numbers on the axis, and the values of clipped bars
   * @param formatValue formats numbers in the tooltip
   */
  constructor(
    container: HTMLElement,
    formatTick: (value: number) => string,
    formatValue: (value: number) => string,
  ) {
    this.#formatValue = formatValue;
    const axis: uPlot.Axis = {
      stroke: () => readColour('--text-soft'),
      font: AXIS_FONT,
      ticks: { show: false },
      border: { show: false },
    };
    this.#plot = createPlot(container, {
      padding: [TOP_PADDING_PX, 20, 0, 0],
      cursor: { x: false, y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { time: false, range: () => [-0.5, Math.max(1, this.#data.bars.length) - 0.5] },
        y: { range: () => [0, this.#scale.top] },
      },
      series: [{}, { scale: 'y', paths: () => null, points: { show: false } }],
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: X_AXIS_PX,
          splits: ({ bbox }) => this.#labelledBars(bbox.width / uPlot.pxRatio),
          values: (_plot, splits) => this.#axisLabels(splits),
        },
        {
          ...axis,
          grid: { stroke: () => readColour('--grid'), width: 1 },
          incrs: TICK_INCREMENTS,
          space: 36,
          size: (_plot, labels) => axisWidth(labels),
          values: (plot, splits) => splits.map((value) => (isEmpty(plot) ? '' : formatTick(value))),
        },
      ],
      hooks: {
        draw: [
          (plot) => {
            paintBars(plot, this.#data.layers, this.#scale, formatTick);
            // In front of wide bars, which would hide short outages.
            paintBands(plot, this.#data.bands);
          },
        ],
        setCursor: [(plot) => this.#updateTooltip(plot)],
      },
    });
    this.#hideTooltip(true);
    this.#plot.over.append(this.#band, this.#tooltip);
  }

  /** @returns whether bars are clipped, so that a text can say so */
  show(data: BarChartData): boolean {
    this.#data = data;
    const totals = data.bars.map((_, bar) => totalOf(data.layers, bar));
    this.#scale = toBarScale(totals);
    this.#plot.setData([totals.map((_, bar) => bar), totals], false);
    // With the same number of bars the x scale is the same, and uPlot would keep the old labels.
    this.#plot.redraw(true, true);
    return this.#scale.isClipped;
  }

  /** The bars with a label: as many as fit. */
  #labelledBars(widthPx: number): number[] {
    const { bars, labelSteps } = this.#data;
    const maxLabels = Math.max(1, Math.floor(widthPx / MIN_LABEL_DISTANCE_PX));
    const step = labelSteps.find((candidate) => bars.length / candidate <= maxLabels) ?? bars.length;
    return [...bars.keys()].filter((bar) => (bars[bar]?.ordinal ?? 0) % step === 0);
  }

  #axisLabels(splits: readonly number[]): string[] {
    const { bars } = this.#data;
    return splits.map((bar, index) => {
      const { label = '', group = '' } = bars[bar] ?? {};
      const previous = bars[splits[index - 1] ?? -1]?.group;
      return group === previous ? label : `${label}\n${group}`;
    });
  }

  #updateTooltip({ cursor, over }: uPlot): void {
    const { left = -1, idx = null } = cursor;
    const { bars, layers } = this.#data;
    const bar = idx === null ? undefined : bars[idx];
    const isHidden = idx === null || bar === undefined || bar.title === '' || left < 0;
    this.#hideTooltip(isHidden);
    if (isHidden) return;
    const width = over.clientWidth / bars.length;
    this.#band.style.left = `${idx * width}px`;
    this.#band.style.width = `${width}px`;
    const lines = layers
      .filter(({ values }) => (values[idx] ?? 0) > 0)
      .map(({ name, colour, values }) => {
        const line = createElement('p');
        const text = this.#formatValue(values[idx] ?? 0);
        line.append(colourSwatch(colour), createElement('span', name), createElement('b', text));
        return line;
      })
      .toReversed();
    const notes = bar.notes.map((note) => createElement('p', note, 'note'));
    this.#tooltip.replaceChildren(createElement('strong', bar.title), ...lines, ...notes);
    if (lines.length + notes.length === 0) this.#tooltip.append(createElement('p', 'nothing'));
    // Beside the bar if there is room, otherwise over the chart.
    const { offsetWidth } = this.#tooltip;
    const isLeft = (idx + 0.5) * width > over.clientWidth / 2;
    const besidePx = isLeft ? idx * width - offsetWidth - TOOLTIP_GAP_PX : (idx + 1) * width + TOOLTIP_GAP_PX;
    const leftPx = Math.min(Math.max(besidePx, -over.offsetLeft), over.clientWidth - offsetWidth);
    this.#tooltip.style.left = `${leftPx}px`;
  }

  #hideTooltip(isHidden: boolean): void {
    this.#band.hidden = isHidden;
    this.#tooltip.hidden = isHidden;
  }
}

function totalOf(layers: readonly Layer[], bar: number): number {
  return layers.reduce((sum, { values }) => sum + (values[bar] ?? 0), 0);
}

/** Width of an axis for its longest label, in CSS pixels. */
function axisWidth(labels: readonly string[] | null): number {
  return Math.max(0, ...(labels ?? []).map((label) => label.length)) * CHARACTER_PX + AXIS_GAP_PX;
}

function isEmpty(plot: uPlot): boolean {
  return !(plot.data[1] ?? []).some((value) => (value ?? 0) > 0);
}

/** Distance between two lines of the hatching, in CSS pixels. */
const HATCH_PX = 7;

/** Smallest width of a band, in CSS pixels. */
const MIN_BAND_PX = 4;

/** Narrower bands cut through a bar, so that they are visible in front of it. Wider ones must not hide it. */
const CUTTING_BAND_BARS = 0.25;

/** Bands at least this wide have a label, in CSS pixels. */
const MIN_LABELLED_BAND_PX = 72;

/** Hatches the bands over the full height. */
function paintBands(plot: uPlot, bands: readonly Band[]): void {
  if (bands.length === 0) return;
  const { ctx, bbox } = plot;
  const { pxRatio: pixelRatio } = uPlot;
  const { left, top, width, height } = bbox;
  const slotPx = plot.valToPos(1, 'x', true) - plot.valToPos(0, 'x', true);
  const minWidthPx = Math.min(MIN_BAND_PX * pixelRatio, CUTTING_BAND_BARS * slotPx);
  const rectangles = bands.map(({ from, to }) => ({
    startPx: plot.valToPos(from - 0.5, 'x', true),
    widthPx: Math.max((to - from) * slotPx, minWidthPx),
    isCutting: to - from < CUTTING_BAND_BARS,
  }));
  ctx.save();
  ctx.fillStyle = readColour('--card');
  for (const { startPx, widthPx, isCutting } of rectangles)
    if (isCutting) ctx.fillRect(startPx, top, widthPx, height);
  ctx.beginPath();
  for (const { startPx, widthPx } of rectangles) ctx.rect(startPx, top, widthPx, height);
  ctx.clip();
  ctx.beginPath();
  for (let x = left - height; x < left + width; x += HATCH_PX * pixelRatio) {
    ctx.moveTo(x, top + height);
    ctx.lineTo(x + height, top);
  }
  ctx.lineWidth = pixelRatio;
  ctx.strokeStyle = readColour('--hatch');
  ctx.stroke();
  ctx.restore();
  // In an empty chart, a text says why it is empty.
  if (isEmpty(plot)) return;
  ctx.save();
  ctx.font = `${AXIS_FONT_PX * pixelRatio}px ${FONT_FAMILY}`;
  ctx.textAlign = 'center';
  ctx.textBaseline = 'middle';
  const [halfWidth, halfHeight] = [ctx.measureText('no data').width / 2 + 6 * pixelRatio, 11 * pixelRatio];
  for (const { startPx, widthPx } of rectangles) {
    if (widthPx < MIN_LABELLED_BAND_PX * pixelRatio) continue;
    const [x, y] = [startPx + widthPx / 2, top + height / 2];
    ctx.fillStyle = readColour('--card');
    ctx.fillRect(x - halfWidth, y - halfHeight, 2 * halfWidth, 2 * halfHeight);
    ctx.fillStyle = readColour('--text-soft');
    ctx.fillText('no data', x, y);
  }
  ctx.restore();
}

/** Share of the available width that a bar fills. */
const BAR_WIDTH_SHARE = 0.72;

/** In CSS pixels. */
const MAX_BAR_WIDTH_PX = 44;
const CORNER_PX = 4;
/** Gap between two layers, so that they differ by more than their colours. */
const GAP_PX = 1;
/** Makes the smallest values visible. */
const MIN_BAR_HEIGHT_PX = 2;
/** Distance of the break of a clipped bar from the top, its height and its slope. */
const BREAK_PX = 12;
const BREAK_HEIGHT_PX = 5;
const BREAK_SLOPE_PX = 5;

/** Paints stacked bars. All lengths are in canvas pixels. */
function paintBars(
  plot: uPlot,
  layers: readonly Layer[],
  scale: BarScale,
  formatValue: (value: number) => string,
): void {
  const { ctx } = plot;
  const { pxRatio: pixelRatio } = uPlot;
  const bars = plot.data[0]?.length ?? 0;
  const width = Math.round(
    Math.max(1, Math.min((plot.bbox.width / bars) * BAR_WIDTH_SHARE, MAX_BAR_WIDTH_PX * pixelRatio)),
  );
  const floor = plot.valToPos(0, 'y', true);
  for (let bar = 0; bar < bars; bar += 1) {
    const total = totalOf(layers, bar);
    if (total <= 0) continue;
    const left = Math.round(plot.valToPos(bar, 'x', true) - width / 2);
    const isClipped = total > scale.top;
    const shown = Math.min(total, scale.top);
    const top = Math.min(plot.valToPos(shown, 'y', true), floor - MIN_BAR_HEIGHT_PX * pixelRatio);
    const corner = isClipped ? 0 : Math.min(CORNER_PX * pixelRatio, width / 2, floor - top);
    ctx.save();
    ctx.beginPath();
    ctx.roundRect(left, top, width, floor - top, [corner, corner, 0, 0]);
    ctx.clip();
    let below = 0;
    for (const layer of layers) {
      const value = Math.min(layer.values[bar] ?? 0, shown - below);
      if (value <= 0) continue;
      const bottom = floor - ((floor - top) * below) / shown;
      below += value;
      const upper = floor - ((floor - top) * below) / shown;
      const gap = bottom < floor && bottom - upper > 2 * GAP_PX * pixelRatio ? GAP_PX * pixelRatio : 0;
      ctx.fillStyle = readColour(layer.colour);
      ctx.fillRect(left, upper, width, bottom - upper - gap);
    }
    if (isClipped) paintBreak(ctx, left, top + BREAK_PX * pixelRatio, width);
    ctx.restore();
  }
  if (scale.isClipped) paintClippedValues(plot, layers, scale, formatValue);
}

/** A slanted gap in a bar: the bar continues beyond the scale. */
function paintBreak(ctx: CanvasRenderingContext2D, left: number, top: number, width: number): void {
  const { pxRatio: pixelRatio } = uPlot;
  const [slope, height] = [BREAK_SLOPE_PX * pixelRatio, BREAK_HEIGHT_PX * pixelRatio];
  ctx.beginPath();
  ctx.moveTo(left, top + slope);
  ctx.lineTo(left + width, top);
  ctx.lineTo(left + width, top + height);
  ctx.lineTo(left, top + slope + height);
  ctx.fillStyle = readColour('--card');
  ctx.fill();
}

/** Writes the values of clipped bars above them, the tallest first; values without room are left out. */
function paintClippedValues(
  plot: uPlot,
  layers: readonly Layer[],
  { top }: BarScale,
  formatValue: (value: number) => string,
): void {
  const { ctx, bbox } = plot;
  const { pxRatio: pixelRatio } = uPlot;
  const gap = CHARACTER_PX * pixelRatio;
  const written: { readonly start: number; readonly end: number }[] = [];
  ctx.save();
  ctx.font = `600 ${AXIS_FONT_PX * pixelRatio}px ${FONT_FAMILY}`;
  ctx.fillStyle = readColour('--text');
  ctx.textAlign = 'left';
  ctx.textBaseline = 'bottom';
  const clipped = Array.from({ length: plot.data[0].length }, (_, bar) => bar)
    .map((bar) => ({ bar, total: totalOf(layers, bar) }))
    .filter(({ total }) => total > top)
    .toSorted((one, other) => other.total - one.total);
  for (const { bar, total } of clipped) {
    const text = formatValue(total);
    const { width } = ctx.measureText(text);
    const middle = plot.valToPos(bar, 'x', true);
    const start = Math.min(Math.max(middle - width / 2, bbox.left), bbox.left + bbox.width - width);
    const end = start + width;
    if (written.some((other) => start < other.end + gap && end > other.start - gap)) continue;
    written.push({ start, end });
    ctx.fillText(text, start, bbox.top - 3 * pixelRatio);
  }
  ctx.restore();
}
