import { appendFileSync } from 'node:fs';
import { registerHooks } from 'node:module';

/** Loaded before a program by `NODE_OPTIONS=--import`: writes whatever is loaded from then on into that file, a URL a line. */
const path = process.env['LOADED_MODULES'] ?? '';

registerHooks({
  load(url, context, nextLoad) {
    appendFileSync(path, `${url}\n`);
    return nextLoad(url, context);
  },
});
