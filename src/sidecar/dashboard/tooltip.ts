import type uPlot from './uplot.js';
import { make, swatch } from './dom.ts';

export interface TooltipLine {
  readonly name: string;
  /** CSS custom property that holds its colour. */
  readonly colour: string;
  readonly text: string;
}

/** What the bar under the pointer stands for. Who has no pointer finds the same in the table below the chart. */
export class Tooltip {
  readonly #describe: (bar: number) => { readonly title: string; readonly lines: readonly TooltipLine[] };
  readonly #band = make('div', '', 'tooltip-band');
  readonly #box = make('div', '', 'tooltip');

  constructor(describe: (bar: number) => { readonly title: string; readonly lines: readonly TooltipLine[] }) {
    this.#describe = describe;
    this.#hide(true);
  }

  attach(plot: uPlot): void {
    plot.over.append(this.#band, this.#box);
  }

  follow(plot: uPlot): void {
    const { left = -1, idx } = plot.cursor;
    const bars = plot.data[0]?.length ?? 0;
    const bar = idx ?? null;
    this.#hide(bar === null || left < 0);
    if (bar === null || left < 0) return;
    const width = plot.over.clientWidth / bars;
    this.#band.style.left = `${bar * width}px`;
    this.#band.style.width = `${width}px`;
    const { title, lines } = this.#describe(bar);
    this.#box.replaceChildren(make('strong', title), ...lines.map(lineOf));
    if (lines.length === 0) this.#box.append(make('p', 'nothing'));
    const middle = (bar + 0.5) * width;
    const toTheLeft = middle > plot.over.clientWidth / 2;
    this.#box.style.left = toTheLeft ? 'auto' : `${middle + width / 2 + 8}px`;
    this.#box.style.right = toTheLeft ? `${plot.over.clientWidth - middle + width / 2 + 8}px` : 'auto';
  }

  #hide(isHidden: boolean): void {
    this.#band.hidden = isHidden;
    this.#box.hidden = isHidden;
  }
}

function lineOf({ name, colour, text }: TooltipLine): HTMLElement {
  const line = make('p');
  line.append(swatch(colour), make('span', name), make('b', text));
  return line;
}
