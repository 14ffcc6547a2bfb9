import { createServer } from 'node:http';
import type { Server } from 'node:http';

/** HTTP for operators. It counts nothing and is counted nowhere. */
export function createStatusServer(): Server {
  return createServer((request, response) => {
    request.resume();
    const path = new URL(request.url ?? '/', 'http://relay').pathname;
    if (path !== '/healthz') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { allow: 'GET, HEAD' }).end();
    } else {
      response.writeHead(200, { 'content-type': 'text/plain', 'cache-control': 'no-store' }).end('ok\n');
    }
  });
}
