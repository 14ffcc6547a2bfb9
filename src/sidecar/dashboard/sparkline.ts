import uPlot from './uplot.js';
import { PLAIN, onLookChange } from './chart-theme.ts';
import { colourOf } from './dom.ts';
import { HISTORY_S } from './rate-history.ts';
import type { RateHistory } from './rate-history.ts';

const HEADROOM = 1.15;

/** The rate of the last minutes as a small area without axes. */
export class Sparkline {
  readonly #holder: HTMLElement;
  readonly #history: RateHistory;
  #nowSeconds = 0;
  #plot: uPlot | null = null;

  constructor(holder: HTMLElement, history: RateHistory) {
    this.#holder = holder;
    this.#history = history;
    onLookChange(
      holder,
      () => this.#resize(),
      () => this.#plot?.redraw(false),
    );
  }

  /** Draws what the history holds; `nowSeconds` is the right edge. */
  show(nowSeconds: number): void {
    this.#nowSeconds = nowSeconds;
    const data: uPlot.AlignedData = [[...this.#history.times], [...this.#history.rates]];
    if (this.#plot === null) this.#plot = new uPlot(this.#options(), data, this.#holder);
    else this.#plot.setData(data);
  }

  #resize(): void {
    const { clientWidth: width, clientHeight: height } = this.#holder;
    if (width > 0 && height > 0) this.#plot?.setSize({ width, height });
  }

  #options(): uPlot.Options {
    return {
      ...PLAIN,
      width: this.#holder.clientWidth,
      height: this.#holder.clientHeight,
      padding: [2, 0, 0, 0],
      cursor: { show: false },
      scales: {
        x: { range: () => [this.#nowSeconds - HISTORY_S, this.#nowSeconds] },
        y: { range: (_plot, _least, most) => [0, most > 0 ? most * HEADROOM : 1] },
      },
      axes: [{ show: false }, { show: false }],
      series: [
        {},
        {
          scale: 'y',
          width: 2,
          stroke: () => colourOf('--accent'),
          fill: (plot) => shade(plot),
          points: { show: false },
        },
      ],
    };
  }
}

/** From a tint of the accent at the top to nothing at the axis. */
function shade(plot: uPlot): CanvasGradient {
  const { top, height } = plot.bbox;
  const gradient = plot.ctx.createLinearGradient(0, top, 0, top + height);
  gradient.addColorStop(0, colourOf('--accent-tint'));
  gradient.addColorStop(1, colourOf('--accent-fade'));
  return gradient;
}
