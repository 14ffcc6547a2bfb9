import { BASE_CHART_OPTIONS, axisStyle, axisWidth, onResizeOrRecolour } from './chart-theme.ts';
import { colourSwatch, createElement, readColour } from './dom.ts';
import uPlot from './uplot.js';

/** One colour of a stack. */
export interface Layer {
  readonly name: string;
  /** CSS custom property that holds its colour. */
  readonly colour: string;
  /** A number for each bar, 0 or more. */
  readonly values: readonly number[];
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

/** In canvas pixels. */
function barWidth(plot: uPlot, bars: number, pixelRatio: number): number {
  return Math.max(1, Math.min((plot.bbox.width / bars) * BAR_WIDTH_SHARE, MAX_BAR_WIDTH_PX * pixelRatio));
}

/** Paints stacked bars. Bar n is at n on the x scale; the y scale starts at 0. */
export function paintBars(plot: uPlot, layers: readonly Layer[], pixelRatio: number): void {
  const { ctx } = plot;
  const bars = plot.data[0]?.length ?? 0;
  const width = barWidth(plot, bars, pixelRatio);
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

export interface TooltipLine {
  readonly name: string;
  /** CSS custom property that holds its colour. */
  readonly colour: string;
  readonly text: string;
}

/**
 * The values of the bar under the pointer. The table below the chart has them too, for users without a
 * pointer.
 */
export class Tooltip {
  readonly #describe: (bar: number) => { readonly title: string; readonly lines: readonly TooltipLine[] };
  readonly #band = createElement('div', '', 'tooltip-band');
  readonly #box = createElement('div', '', 'tooltip');

  constructor(describe: (bar: number) => { readonly title: string; readonly lines: readonly TooltipLine[] }) {
    this.#describe = describe;
    this.#hide(true);
  }

  attach(plot: uPlot): void {
    plot.over.append(this.#band, this.#box);
  }

  update(plot: uPlot): void {
    const { left = -1, idx } = plot.cursor;
    const bars = plot.data[0]?.length ?? 0;
    const bar = idx ?? null;
    this.#hide(bar === null || left < 0);
    if (bar === null || left < 0) return;
    const width = plot.over.clientWidth / bars;
    this.#band.style.left = `${bar * width}px`;
    this.#band.style.width = `${width}px`;
    const { title, lines } = this.#describe(bar);
    this.#box.replaceChildren(createElement('strong', title), ...lines.map(lineElement));
    if (lines.length === 0) this.#box.append(createElement('p', 'nothing'));
    const middle = (bar + 0.5) * width;
    const isLeft = middle > plot.over.clientWidth / 2;
    this.#box.style.left = isLeft ? 'auto' : `${middle + width / 2 + 8}px`;
    this.#box.style.right = isLeft ? `${plot.over.clientWidth - middle + width / 2 + 8}px` : 'auto';
  }

  #hide(isHidden: boolean): void {
    this.#band.hidden = isHidden;
    this.#box.hidden = isHidden;
  }
}

function lineElement({ name, colour, text }: TooltipLine): HTMLElement {
  const line = createElement('p');
  line.append(colourSwatch(colour), createElement('span', name), createElement('b', text));
  return line;
}

export interface BarChartData {
  /** Axis labels, one per bar. */
  readonly labels: readonly string[];
  /** Tooltip titles, one per bar. */
  readonly titles: readonly string[];
  /** From bottom to top. */
  readonly layers: readonly Layer[];
}

export interface BarChartFormat {
  /** Formats numbers on the axis. */
  readonly axis: (value: number) => string;
  /** Formats numbers in the tooltip. */
  readonly value: (value: number) => string;
}

/** Minimum distance between two axis labels, in CSS pixels. */
const MIN_LABEL_DISTANCE_PX = 56;

/** Space above the highest bar, as a factor. */
const HEADROOM = 1.06;

/** Allowed steps between labels, so that hours are 3 or 6 apart rather than 5. */
const LABEL_STEPS = [1, 2, 3, 4, 6, 12, 24] as const;

/** Allowed steps between grid lines: whole numbers only. */
const TICK_INCREMENTS = Array.from({ length: 16 }, (_, power) =>
  [1, 2, 5].map((step) => step * 10 ** power),
).flat();

/** A chart of stacked bars over a period, with a tooltip. It fills its container. */
export class BarChart {
  readonly #container: HTMLElement;
  readonly #format: BarChartFormat;
  #data: BarChartData = { labels: [], titles: [], layers: [] };
  #plot: uPlot | null = null;

  constructor(container: HTMLElement, format: BarChartFormat) {
    this.#container = container;
    this.#format = format;
    onResizeOrRecolour(
      container,
      () => this.#resize(),
      () => this.#plot?.redraw(false),
    );
  }

  show(data: BarChartData): void {
    this.#data = data;
    const totals = data.labels.map((_, bar) =>
      data.layers.reduce((sum, layer) => sum + (layer.values[bar] ?? 0), 0),
    );
    const aligned: uPlot.AlignedData = [totals.map((_, bar) => bar), totals];
    if (this.#plot === null) this.#plot = new uPlot(this.#options(), aligned, this.#container);
    else this.#plot.setData(aligned);
  }

  #resize(): void {
    const { clientWidth: width, clientHeight: height } = this.#container;
    if (width > 0 && height > 0) this.#plot?.setSize({ width, height });
  }

  #options(): uPlot.Options {
    const tooltip = new Tooltip((bar) => this.#tooltipContent(bar));
    return {
      ...BASE_CHART_OPTIONS,
      width: this.#container.clientWidth,
      height: this.#container.clientHeight,
      padding: [8, 20, 0, 0],
      cursor: { x: false, y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { time: false, range: () => [-0.5, Math.max(1, this.#data.labels.length) - 0.5] },
        y: { range: (_plot, _min, max) => [0, max > 0 ? max * HEADROOM : 1] },
      },
      series: [{}, { scale: 'y', paths: () => null, points: { show: false } }],
      axes: [
        {
          ...axisStyle(),
          grid: { show: false },
          size: 26,
          splits: (plot) => this.#labelledBars(plot.bbox.width / uPlot.pxRatio),
          values: (_plot, splits) => splits.map((bar) => this.#data.labels[bar] ?? ''),
        },
        {
          ...axisStyle(),
          incrs: TICK_INCREMENTS,
          space: 36,
          size: (_plot, values) => axisWidth(values),
          values: (plot, splits) => splits.map((value) => (isEmpty(plot) ? '' : this.#format.axis(value))),
        },
      ],
      hooks: {
        draw: [(plot) => paintBars(plot, this.#data.layers, uPlot.pxRatio)],
        ready: [(plot) => tooltip.attach(plot)],
        setCursor: [(plot) => tooltip.update(plot)],
      },
    };
  }

  /** The bars with a label: as many as fit, counted from the newest. */
  #labelledBars(widthPx: number): number[] {
    const bars = this.#data.labels.length;
    const maxLabels = Math.max(1, Math.floor(widthPx / MIN_LABEL_DISTANCE_PX));
    const step = LABEL_STEPS.find((candidate) => bars / candidate <= maxLabels) ?? bars;
    return this.#data.labels.map((_, bar) => bar).filter((bar) => (bars - 1 - bar) % step === 0);
  }

  #tooltipContent(bar: number): { readonly title: string; readonly lines: readonly TooltipLine[] } {
    const lines = this.#data.layers
      .map((layer) => ({ ...layer, value: layer.values[bar] ?? 0 }))
      .filter((layer) => layer.value > 0)
      .map(({ name, colour, value }) => ({ name, colour, text: this.#format.value(value) }));
    return { title: this.#data.titles[bar] ?? '', lines };
  }
}

function isEmpty(plot: uPlot): boolean {
  return !(plot.data[1] ?? []).some((value) => (value ?? 0) > 0);
}
