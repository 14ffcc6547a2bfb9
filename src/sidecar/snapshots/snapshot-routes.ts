import { Router } from 'express';
import type { Request, Response } from 'express';
import { requireSameOrigin } from '../access.ts';
import type { Snapshot, SnapshotList } from '../api.ts';
import type { SnapshotSchedule } from './snapshot-schedule.ts';
import { SnapshotError } from './snapshot-store.ts';
import type { SnapshotStore } from './snapshot-store.ts';

export const SNAPSHOT_CONTENT_TYPE = 'application/vnd.sqlite3';

const LATEST_NAME = 'latest.sqlite';

/** Routes of `/snapshots`. */
export function snapshotRoutes(store: SnapshotStore, schedule: SnapshotSchedule): Router {
  const router = Router();
  router.get('/', (_request, response) => {
    const list: SnapshotList = {
      snapshots: store.list(),
      problem: schedule.problem,
      next: schedule.next.toISOString(),
    };
    response.json(list);
  });
  router.post('/', requireSameOrigin, async (_request, response) => {
    try {
      const snapshot = await schedule.take();
      response.status(201).location(`snapshots/${snapshot.name}`).json(snapshot);
    } catch (error) {
      if (!(error instanceof SnapshotError)) throw error;
      response.status(503).json({ problem: error.message });
    }
  });
  router.get('/:name', async (request, response) => {
    const { name } = request.params;
    const snapshot = store.list().find((one) => name === LATEST_NAME || one.name === name);
    const path = snapshot === undefined ? null : store.pathOf(snapshot.name);
    if (snapshot === undefined || path === null) {
      const problem = name === LATEST_NAME ? 'there is no snapshot yet' : 'no such snapshot; see /snapshots';
      response.status(404).json({ problem });
      return;
    }
    setSnapshotHeaders(request, response, snapshot);
    try {
      await sendFile(response, path);
    } catch (error) {
      // The file was removed by an operator: update the list.
      if (error instanceof Error && 'status' in error && error.status === 404) await store.refresh();
      throw error;
    }
  });
  return router;
}

/** Also handles HEAD, range and conditional requests. Resolves if the client closes the connection, too. */
function sendFile(response: Response, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    response.sendFile(path, { cacheControl: false, dotfiles: 'allow' }, (error?: Error) => {
      if (error === undefined || response.req.socket.destroyed) resolve();
      else reject(error);
    });
  });
}

function setSnapshotHeaders(request: Request, response: Response, snapshot: Snapshot): void {
  // A compressed response is the same snapshot, but not the same bytes: RFC 9110, 8.8.1.
  const strength = isCompressed(request) ? 'W/' : '';
  response.setHeader('etag', `${strength}"${snapshot.sha256}"`);
  response.setHeader('last-modified', new Date(snapshot.time).toUTCString());
  response.setHeader('content-type', SNAPSHOT_CONTENT_TYPE);
  response.setHeader('content-disposition', `attachment; filename="${snapshot.name}"`);
  response.setHeader('content-location', `${request.baseUrl}/${snapshot.name}`);
}

/** Range responses are not compressed: a range of compressed data is useless. */
export function isCompressed(request: Request): boolean {
  return request.headers.range === undefined && request.acceptsEncodings('gzip') !== false;
}
