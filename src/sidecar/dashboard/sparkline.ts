import uPlot from './uplot.js';
import { BASE_CHART_OPTIONS, onResizeOrRecolour } from './chart-theme.ts';
import { readColour } from './dom.ts';
import { HISTORY_S } from './live-state.ts';
import type { RateHistory } from './live-state.ts';

const HEADROOM = 1.15;

/** A small area chart of the recent rate, without axes. */
export class Sparkline {
  readonly #container: HTMLElement;
  readonly #history: RateHistory;
  #nowSeconds = 0;
  #plot: uPlot | null = null;

  constructor(container: HTMLElement, history: RateHistory) {
    this.#container = container;
    this.#history = history;
    onResizeOrRecolour(
      container,
      () => this.#resize(),
      () => this.#plot?.redraw(false),
    );
  }

  /** Draws the history; `nowSeconds` is the right edge. */
  show(nowSeconds: number): void {
    this.#nowSeconds = nowSeconds;
    const data: uPlot.AlignedData = [[...this.#history.times], [...this.#history.rates]];
    if (this.#plot === null) this.#plot = new uPlot(this.#options(), data, this.#container);
    else this.#plot.setData(data);
  }

  #resize(): void {
    const { clientWidth: width, clientHeight: height } = this.#container;
    if (width > 0 && height > 0) this.#plot?.setSize({ width, height });
  }

  #options(): uPlot.Options {
    return {
      ...BASE_CHART_OPTIONS,
      width: this.#container.clientWidth,
      height: this.#container.clientHeight,
      padding: [2, 0, 0, 0],
      cursor: { show: false },
      scales: {
        x: { range: () => [this.#nowSeconds - HISTORY_S, this.#nowSeconds] },
        y: { range: (_plot, _min, max) => [0, max > 0 ? max * HEADROOM : 1] },
      },
      axes: [{ show: false }, { show: false }],
      series: [
        {},
        {
          scale: 'y',
          width: 2,
          stroke: () => readColour('--accent'),
          fill: (plot) => areaGradient(plot),
          points: { show: false },
        },
      ],
    };
  }
}

/** From a tint of the accent colour at the top to transparent at the bottom. */
function areaGradient(plot: uPlot): CanvasGradient {
  const { top, height } = plot.bbox;
  const gradient = plot.ctx.createLinearGradient(0, top, 0, top + height);
  gradient.addColorStop(0, readColour('--accent-tint'));
  gradient.addColorStop(1, readColour('--accent-fade'));
  return gradient;
}
