import uPlot from './uplot.js';
import { paintBars } from './bar-painter.ts';
import type { Layer } from './bar-painter.ts';
import { PLAIN, axisLook, onLookChange, widthOf } from './chart-theme.ts';
import { Tooltip } from './tooltip.ts';
import type { TooltipLine } from './tooltip.ts';

export interface BarChartData {
  /** Below the axis, one for each bar. */
  readonly labels: readonly string[];
  /** In the tooltip, one for each bar. */
  readonly titles: readonly string[];
  /** From the axis up. */
  readonly layers: readonly Layer[];
}

export interface BarChartLook {
  /** Numbers beside the axis. */
  readonly axis: (value: number) => string;
  /** Numbers in the tooltip. */
  readonly value: (value: number) => string;
}

/** The least that two labels below the axis are apart, in CSS pixels. */
const LABEL_SPACE_PX = 56;

/** Room above the highest bar. */
const HEADROOM = 1.06;

/** Steps between labels, so that hours are 3 or 6 apart and not 5. */
const LABEL_STEPS = [1, 2, 3, 4, 6, 12, 24] as const;

/** Steps between lines: nothing between 0 and 1 of what is counted. */
const WHOLE_STEPS = Array.from({ length: 16 }, (_, power) =>
  [1, 2, 5].map((step) => step * 10 ** power),
).flat();

/** Stacked bars over a period, with a tooltip; as wide and as high as the element that holds them. */
export class BarChart {
  readonly #holder: HTMLElement;
  readonly #look: BarChartLook;
  #data: BarChartData = { labels: [], titles: [], layers: [] };
  #plot: uPlot | null = null;

  constructor(holder: HTMLElement, look: BarChartLook) {
    this.#holder = holder;
    this.#look = look;
    onLookChange(
      holder,
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
    if (this.#plot === null) this.#plot = new uPlot(this.#options(), aligned, this.#holder);
    else this.#plot.setData(aligned);
  }

  #resize(): void {
    const { clientWidth: width, clientHeight: height } = this.#holder;
    if (width > 0 && height > 0) this.#plot?.setSize({ width, height });
  }

  #options(): uPlot.Options {
    const tooltip = new Tooltip((bar) => this.#describe(bar));
    return {
      ...PLAIN,
      width: this.#holder.clientWidth,
      height: this.#holder.clientHeight,
      padding: [8, 20, 0, 0],
      cursor: { x: false, y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { time: false, range: () => [-0.5, Math.max(1, this.#data.labels.length) - 0.5] },
        y: { range: (_plot, _least, most) => [0, most > 0 ? most * HEADROOM : 1] },
      },
      series: [{}, { scale: 'y', paths: () => null, points: { show: false } }],
      axes: [
        {
          ...axisLook(),
          grid: { show: false },
          size: 26,
          splits: (plot) => this.#labelled(plot.bbox.width / uPlot.pxRatio),
          values: (_plot, splits) => splits.map((bar) => this.#data.labels[bar] ?? ''),
        },
        {
          ...axisLook(),
          incrs: WHOLE_STEPS,
          space: 36,
          size: (_plot, values) => widthOf(values),
          values: (plot, splits) => splits.map((value) => (isEmpty(plot) ? '' : this.#look.axis(value))),
        },
      ],
      hooks: {
        draw: [(plot) => paintBars(plot, this.#data.layers, uPlot.pxRatio)],
        ready: [(plot) => tooltip.attach(plot)],
        setCursor: [(plot) => tooltip.follow(plot)],
      },
    };
  }

  /** The bars that have a label: as many as there is room for, counted from the newest. */
  #labelled(widthPx: number): number[] {
    const bars = this.#data.labels.length;
    const most = Math.max(1, Math.floor(widthPx / LABEL_SPACE_PX));
    const step = LABEL_STEPS.find((candidate) => bars / candidate <= most) ?? bars;
    return this.#data.labels.map((_, bar) => bar).filter((bar) => (bars - 1 - bar) % step === 0);
  }

  #describe(bar: number): { readonly title: string; readonly lines: readonly TooltipLine[] } {
    const lines = this.#data.layers
      .map((layer) => ({ ...layer, value: layer.values[bar] ?? 0 }))
      .filter((layer) => layer.value > 0)
      .map(({ name, colour, value }) => ({ name, colour, text: this.#look.value(value) }));
    return { title: this.#data.titles[bar] ?? '', lines };
  }
}

function isEmpty(plot: uPlot): boolean {
  return !(plot.data[1] ?? []).some((value) => (value ?? 0) > 0);
}
