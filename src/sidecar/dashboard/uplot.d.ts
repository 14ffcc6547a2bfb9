// The browser knows no package names, so the page imports uPlot from beside its own modules. Its types are
// the package's.
import uPlot from 'uplot';
// oxlint-disable-next-line import/no-default-export -- what uPlot's module exports
export default uPlot;
