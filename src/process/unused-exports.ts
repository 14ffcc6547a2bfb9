/** Exports of `node:http` that load undici and HTTP/2 when they are read. The programs use none of them. */
const LAZY_HTTP_EXPORTS = ['WebSocket', 'CloseEvent', 'MessageEvent'];

/**
 * Saves 5 MB of memory. Call it before the program is imported: `import … from 'node:http'` reads all exports of the
 * module, whatever names are in the braces.
 */
export function hideUnusedExports(): void {
  const http = process.getBuiltinModule('node:http');
  for (const name of LAZY_HTTP_EXPORTS) Object.defineProperty(http, name, { value: undefined });
}
