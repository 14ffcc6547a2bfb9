import type uPlot from './uplot.js';
import { colourOf } from './dom.ts';

/** One colour of a stack. */
export interface Layer {
  readonly name: string;
  /** CSS custom property that holds its colour. */
  readonly colour: string;
  /** A number for each bar, 0 or more. */
  readonly values: readonly number[];
}

/** Of the room that a bar has. */
const BAR_SHARE = 0.72;

/** In CSS pixels. */
const WIDEST_BAR_PX = 44;
const CORNER_PX = 4;
/** Between two layers, so that they are told apart by more than their colours. */
const GAP_PX = 1;
/** What happened at all can be seen. */
const LOWEST_BAR_PX = 2;

/** In pixels of the canvas. */
function barWidth(plot: uPlot, bars: number, pixelRatio: number): number {
  return Math.max(1, Math.min((plot.bbox.width / bars) * BAR_SHARE, WIDEST_BAR_PX * pixelRatio));
}

/** Paints stacked bars; bar n stands at n on the x scale. The scale of y begins at 0. */
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
    const top = Math.min(plot.valToPos(total, 'y', true), floor - LOWEST_BAR_PX * pixelRatio);
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
      ctx.fillStyle = colourOf(layer.colour);
      ctx.fillRect(left, upper, Math.round(width), bottom - upper - gap);
    }
    ctx.restore();
  }
}
