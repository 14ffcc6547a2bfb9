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
