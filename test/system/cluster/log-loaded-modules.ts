import { appendFileSync } from 'node:fs';
import { registerHooks } from 'node:module';

/**
 * `NODE_OPTIONS=--import` loads this before a program. It writes the URL of each module loaded later to this
 * file, one a line.
 */
const path = process.env['LOADED_MODULES'] ?? '';

registerHooks({
  load(url, context, nextLoad) {
    appendFileSync(path, `${url}\n`);
    return nextLoad(url, context);
  },
});
