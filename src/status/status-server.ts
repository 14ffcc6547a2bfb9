import { createServer } from 'node:http';
import type { Server } from 'node:http';

/** HTTP for operators. It counts nothing and is counted nowhere. */
export function createStatusServer(): Server {
  return createServer((request, response) => {
    request.resume();
    // No URL parser: a request target need not be a URL, and this must not throw.
    const [path] = (request.url ?? '').split('?', 1);
    if (path !== '/healthz') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { allow: 'GET, HEAD' }).end();
    } else {
      response.writeHead(200, { 'content-type': 'text/plain', 'cache-control': 'no-store' }).end('ok\n');
    }
  });
}
