import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { createStatusServer } from '../../src/status/status-server.ts';

test('/healthz answers GET and HEAD, and nothing else is there', async (context) => {
  const server = createStatusServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const ask = (path: string, method = 'GET'): Promise<Response> =>
    fetch(`http://127.0.0.1:${address.port}${path}`, { method });
  const health = await ask('/healthz?verbose');
  assert.deepEqual([health.status, await health.text()], [200, 'ok\n']);
  assert.equal((await ask('/healthz', 'HEAD')).status, 200);
  assert.equal((await ask('/healthz', 'POST')).status, 405);
  assert.equal((await ask('/')).status, 404);
  assert.equal((await ask('//')).status, 404);
});
