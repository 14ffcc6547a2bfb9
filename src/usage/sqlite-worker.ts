import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { UsageDatabase } from './usage-database.ts';
import type { DatabaseResponse, DatabaseRequest } from './database-thread.ts';

/** Entry of the database thread: a slow or locked disk keeps this thread waiting and nobody else. */
function serve(path: string): void {
  const port = parentPort;
  if (port === null) throw new Error('the database thread has no parent');
  const database = new UsageDatabase(path);
  port.on('message', (request: DatabaseRequest) => {
    const answer: DatabaseResponse = database.handle(request);
    port.postMessage(answer);
    if (request.kind === 'close') port.close();
  });
}

if (!isMainThread && typeof workerData === 'string') serve(workerData);
