import { readFileSync, readdirSync } from 'node:fs';
import { createRequire, stripTypeScriptTypes } from 'node:module';
import { dirname, join } from 'node:path';

/** A file of the page. */
export interface Asset {
  readonly type: string;
  readonly body: string;
}

const DASHBOARD_DIRECTORY = join(import.meta.dirname, 'dashboard');

/** Reads the HTML page; `readAssets` reads all files that it loads. */
export function readPage(): string {
  return readFileSync(join(DASHBOARD_DIRECTORY, 'index.html'), 'utf8');
}

/**
 * Reads all files that the page loads, by name: style sheets, scripts without their types, and uPlot. They
 * are small and served from memory, so that no request accesses the file system.
 */
export function readAssets(): ReadonlyMap<string, Asset> {
  const uplot = dirname(createRequire(import.meta.url).resolve('uplot/dist/uPlot.min.css'));
  const assets = new Map<string, Asset>([
    ['uplot.js', scriptAsset(readFileSync(join(uplot, 'uPlot.esm.js'), 'utf8'))],
    ['uplot.css', styleAsset(readFileSync(join(uplot, 'uPlot.min.css'), 'utf8'))],
  ]);
  for (const name of readdirSync(DASHBOARD_DIRECTORY)) {
    const text = (): string => readFileSync(join(DASHBOARD_DIRECTORY, name), 'utf8');
    if (name.endsWith('.css')) assets.set(name, styleAsset(text()));
    else if (name.endsWith('.ts') && !name.endsWith('.d.ts'))
      assets.set(name, scriptAsset(stripTypeScriptTypes(text())));
  }
  return assets;
}

function scriptAsset(body: string): Asset {
  return { type: 'text/javascript; charset=utf-8', body };
}

function styleAsset(body: string): Asset {
  return { type: 'text/css; charset=utf-8', body };
}
