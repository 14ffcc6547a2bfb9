import { colourSwatch, createElement, readColour } from './dom.ts';
import uPlot from './uplot.js';

/**
 * Creates a plot that fills its container, without uPlot's own legend, crosshair and zooming. It is redrawn
 * when its size or the colour scheme changes; colours are therefore read for each drawing.
 */
export function createPlot(container: HTMLElement, options: Omit<uPlot.Options, 'width' | 'height'>): uPlot {
  const { clientWidth: width, clientHeight: height } = container;
  const plot = new uPlot(
    {
      legend: { show: false },
      select: { show: false, left: 0, top: 0, width: 0, height: 0 },
      ...options,
      width,
      height,
    },
    [[], []],
    container,
  );
  new ResizeObserver(() => {
    const { clientWidth: newWidth, clientHeight: newHeight } = container;
    if (newWidth > 0 && newHeight > 0) plot.setSize({ width: newWidth, height: newHeight });
  }).observe(container);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => plot.redraw(false));
  return plot;
}

/** The y scale starts at 0. The highest value times `headroom` is at the top. */
export function yScale(headroom: number): uPlot.Scale {
  return { range: (_plot, _min, max) => [0, max > 0 ? max * headroom : 1] };
}

/** One colour of a stack. */
interface Layer {
  readonly name: string;
  /** CSS custom property that holds its colour. */
  readonly colour: string;
  /** A number for each bar, 0 or more. */
  readonly values: readonly number[];
}

interface BarChartData {
  /** Axis labels, one per bar. */
  readonly labels: readonly string[];
  /** Tooltip titles, one per bar. */
  readonly titles: readonly string[];
  /** From bottom to top. */
  readonly layers: readonly Layer[];
}

const BAR_CHART_HEADROOM = 1.06;

const AXIS_FONT = '12px system-ui, sans-serif';

/** Approximate width of a character of the axis font, in CSS pixels. */
const CHARACTER_PX = 7;

const AXIS_GAP_PX = 14;

/** Minimum distance between two axis labels, in CSS pixels. */
const MIN_LABEL_DISTANCE_PX = 56;

/** Allowed steps between labels, so that hours are 3 or 6 apart rather than 5. */
const LABEL_STEPS = [1, 2, 3, 4, 6, 12, 24] as const;

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
  #data: BarChartData = { labels: [], titles: [], layers: [] };

  /**
   * @param formatTick formats numbers on the axis
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
      padding: [8, 20, 0, 0],
      cursor: { x: false, y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { time: false, range: () => [-0.5, Math.max(1, this.#data.labels.length) - 0.5] },
        y: yScale(BAR_CHART_HEADROOM),
      },
      series: [{}, { scale: 'y', paths: () => null, points: { show: false } }],
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 26,
          splits: ({ bbox }) => this.#labelledBars(bbox.width / uPlot.pxRatio),
          values: (_plot, splits) => splits.map((bar) => this.#data.labels[bar] ?? ''),
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
        draw: [(plot) => paintBars(plot, this.#data.layers)],
        setCursor: [(plot) => this.#updateTooltip(plot)],
      },
    });
    this.#hideTooltip(true);
    this.#plot.over.append(this.#band, this.#tooltip);
  }

  show(data: BarChartData): void {
    this.#data = data;
    const totals = data.labels.map((_, bar) =>
      data.layers.reduce((sum, layer) => sum + (layer.values[bar] ?? 0), 0),
    );
    this.#plot.setData([totals.map((_, bar) => bar), totals]);
  }

  /** The bars with a label: as many as fit, counted from the newest. */
  #labelledBars(widthPx: number): number[] {
    const bars = this.#data.labels.length;
    const maxLabels = Math.max(1, Math.floor(widthPx / MIN_LABEL_DISTANCE_PX));
    const step = LABEL_STEPS.find((candidate) => bars / candidate <= maxLabels) ?? bars;
    return this.#data.labels.map((_, bar) => bar).filter((bar) => (bars - 1 - bar) % step === 0);
  }

  #updateTooltip({ cursor, over }: uPlot): void {
    const { left = -1, idx: bar = null } = cursor;
    const isHidden = bar === null || left < 0;
    this.#hideTooltip(isHidden);
    if (isHidden) return;
    const { labels, titles, layers } = this.#data;
    const width = over.clientWidth / labels.length;
    this.#band.style.left = `${bar * width}px`;
    this.#band.style.width = `${width}px`;
    const lines = layers
      .filter(({ values }) => (values[bar] ?? 0) > 0)
      .map(({ name, colour, values }) => {
        const line = createElement('p');
        const text = this.#formatValue(values[bar] ?? 0);
        line.append(colourSwatch(colour), createElement('span', name), createElement('b', text));
        return line;
      });
    this.#tooltip.replaceChildren(createElement('strong', titles[bar] ?? ''), ...lines);
    if (lines.length === 0) this.#tooltip.append(createElement('p', 'nothing'));
    const middle = (bar + 0.5) * width;
    const isLeft = middle > over.clientWidth / 2;
    this.#tooltip.style.left = isLeft ? 'auto' : `${middle + width / 2 + 8}px`;
    this.#tooltip.style.right = isLeft ? `${over.clientWidth - middle + width / 2 + 8}px` : 'auto';
  }

  #hideTooltip(isHidden: boolean): void {
    this.#band.hidden = isHidden;
    this.#tooltip.hidden = isHidden;
  }
}

/** Width of an axis for its longest label, in CSS pixels. */
function axisWidth(labels: readonly string[] | null): number {
  return Math.max(0, ...(labels ?? []).map((label) => label.length)) * CHARACTER_PX + AXIS_GAP_PX;
}

function isEmpty(plot: uPlot): boolean {
  return !(plot.data[1] ?? []).some((value) => (value ?? 0) > 0);
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

/** Paints stacked bars. All lengths are in canvas pixels. */
function paintBars(plot: uPlot, layers: readonly Layer[]): void {
  const { ctx } = plot;
  const { pxRatio: pixelRatio } = uPlot;
  const bars = plot.data[0]?.length ?? 0;
  const width = Math.max(
    1,
    Math.min((plot.bbox.width / bars) * BAR_WIDTH_SHARE, MAX_BAR_WIDTH_PX * pixelRatio),
  );
  const floor = plot.valToPos(0, 'y', true);
  for (let bar = 0; bar < bars; bar += 1) {
    const values = layers.map((layer) => layer.values[bar] ?? 0);
    const total = values.reduce((sum, value) => sum + value, 0);
    if (total <= 0) continue;
    const left = Math.round(plot.valToPos(bar, 'x', true) - width / 2);
    const top = Math.min(plot.valToPos(total, 'y', true), floor - MIN_BAR_HEIGHT_PX * pixelRatio);
    const corner = Math.min(CORNER_PX * pixelRatio, width / 2, floor - top);
    ctx.save();
    ctx.beginPath();
    ctx.roundRect(left, top, Math.round(width), floor - top, [corner, corner, 0, 0]);
    ctx.clip();
    let below = 0;
    for (const [index, layer] of layers.entries()) {
      const value = values[index] ?? 0;
      if (value <= 0) continue;
      const bottom = floor - ((floor - top) * below) / total;
      below += value;
      const upper = floor - ((floor - top) * below) / total;
      const gap = bottom < floor && bottom - upper > 2 * GAP_PX * pixelRatio ? GAP_PX * pixelRatio : 0;
      ctx.fillStyle = readColour(layer.colour);
      ctx.fillRect(left, upper, Math.round(width), bottom - upper - gap);
    }
    ctx.restore();
  }
}
