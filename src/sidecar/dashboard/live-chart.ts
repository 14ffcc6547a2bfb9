import { createPlot, yScale } from './charts.ts';
import { readColour } from './dom.ts';
import { HISTORY_S } from './live-state.ts';
import type { RateHistory } from './live-state.ts';
import type uPlot from './uplot.js';

const SPARKLINE_HEADROOM = 1.15;

/** A small area chart of the recent rate, without axes. */
export class Sparkline {
  readonly #plot: uPlot;
  #nowSeconds = 0;

  constructor(container: HTMLElement) {
    this.#plot = createPlot(container, {
      padding: [2, 0, 0, 0],
      cursor: { show: false },
      scales: {
        x: { range: () => [this.#nowSeconds - HISTORY_S, this.#nowSeconds] },
        y: yScale(SPARKLINE_HEADROOM),
      },
      axes: [{ show: false }, { show: false }],
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
    });
  }

  /** Draws the history; `nowSeconds` is the right edge. */
  show({ times, rates }: RateHistory, nowSeconds: number): void {
    this.#nowSeconds = nowSeconds;
    this.#plot.setData([[...times], [...rates]]);
  }
}

/** From a tint of the accent colour at the top to transparent at the bottom. */
function areaGradient({ bbox, ctx }: uPlot): CanvasGradient {
  const gradient = ctx.createLinearGradient(0, bbox.top, 0, bbox.top + bbox.height);
  gradient.addColorStop(0, readColour('--accent-tint'));
  gradient.addColorStop(1, readColour('--accent-fade'));
  return gradient;
}
