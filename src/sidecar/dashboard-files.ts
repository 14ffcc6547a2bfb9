import { readFileSync, readdirSync } from 'node:fs';
import { createRequire, stripTypeScriptTypes } from 'node:module';
import { dirname, join } from 'node:path';

const DASHBOARD_DIRECTORY = join(import.meta.dirname, 'dashboard');

/** Reads the HTML page; `readAssets` reads all files that it loads. */
export function readPage(): string {
  return readFileSync(join(DASHBOARD_DIRECTORY, 'index.html'), 'utf8');
}

/**
 * Reads all files that the page loads, by name: style sheets, scripts without their types, and uPlot.
 *
 * The sidecar runs this in a job process, because stripping types loads a compiler, which would take 20 MB
 * for as long as the process lives.
 */
export function readAssets(): ReadonlyMap<string, string> {
  const uplot = dirname(createRequire(import.meta.url).resolve('uplot/dist/uPlot.min.css'));
  const assets = new Map([
    ['uplot.js', readFileSync(join(uplot, 'uPlot.esm.js'), 'utf8')],
    ['uplot.css', readFileSync(join(uplot, 'uPlot.min.css'), 'utf8')],
  ]);
  for (const name of readdirSync(DASHBOARD_DIRECTORY)) {
    if (!/(?<!\.d)\.ts$|\.css$/u.test(name)) continue;
    const text = readFileSync(join(DASHBOARD_DIRECTORY, name), 'utf8');
    assets.set(name, name.endsWith('.ts') ? stripTypeScriptTypes(text) : text);
  }
  return assets;
}
