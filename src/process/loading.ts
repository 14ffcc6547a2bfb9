import { setFlagsFromString } from 'node:v8';

/** Exports of `node:http` that load undici and HTTP/2 when they are read. The programs use none of them. */
const LAZY_HTTP_EXPORTS = ['WebSocket', 'CloseEvent', 'MessageEvent'];

/** Calls after which V8 optimizes a function with its slowest compiler: by default, and while a program loads. */
const CALLS_BEFORE_OPTIMIZATION = { default: 3000, loading: 100_000 };

/**
 * Keeps a program from using memory only because it loads. Call it before importing the program, and
 * `endLoading` when the program runs.
 *
 * - `import … from 'node:http'` reads all exports of the module, whatever the names in the braces are. That
 *   costs 5 MB.
 * - Node's function that normalizes paths is called so often that V8 optimizes it. The first use of that compiler
 *   costs 5 MB, mostly pages of Node's binary.
 */
export function beginLoading(): void {
  const http = process.getBuiltinModule('node:http');
  for (const name of LAZY_HTTP_EXPORTS) Object.defineProperty(http, name, { value: undefined });
  optimizeAfter(CALLS_BEFORE_OPTIMIZATION.loading);
}

/** Functions that were called often meanwhile are optimized soon, and all others as early as usual. */
export function endLoading(): void {
  optimizeAfter(CALLS_BEFORE_OPTIMIZATION.default);
}

function optimizeAfter(calls: number): void {
  setFlagsFromString(`--invocation-count-for-turbofan=${calls}`);
}
