import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Router } from 'express';
import type { Response } from 'express';
import { GRANULARITIES } from '../api.ts';
import type { JobRunner } from '../job-pool.ts';
import { UsageCsvError, streamUsageCsv } from './usage-csv.ts';
import { CSV_GRANULARITIES, parseUsageParams } from './usage-params.ts';
import type { UsageReports } from './usage-reports.ts';
import type { UsageSource } from './usage-source.ts';

/**
 * `/usage.json` and `/usage.csv`.
 *
 * @param brokenOff hears why an answer that had begun could not be finished, which its client can't be told
 */
export function usageRoutes(
  reports: UsageReports,
  source: UsageSource,
  pool: JobRunner<'csvPage'>,
  brokenOff: (problem: string) => void,
): Router {
  const router = Router();

  router.get('/usage.json', async (request, response) => {
    const params = parseUsageParams(request.query, GRANULARITIES, Date.now());
    if (params.kind === 'invalid') {
      response.status(400).json({ problem: params.problem });
      return;
    }
    const outcome = await reports.report(params.range);
    if (outcome.kind === 'ok') response.json(outcome.report);
    else if (outcome.kind === 'rejected') response.status(400).json({ problem: outcome.problem });
    else response.status(503).json({ state: outcome.state, problem: outcome.problem });
  });

  router.get('/usage.csv', async (request, response) => {
    const nowMs = Date.now();
    const params = parseUsageParams(request.query, CSV_GRANULARITIES, nowMs);
    if (params.kind === 'invalid') {
      response.status(400).json({ problem: params.problem });
      return;
    }
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const { range } = params;
    const buffers = streamUsageCsv({ source, pool, range, nowMs, signal: gone.signal });
    try {
      // What can't be read at all is told as such; what breaks off half-way breaks the connection.
      const first = await buffers.next();
      response.setHeader('content-type', 'text/csv; charset=utf-8');
      response.setHeader('content-disposition', `attachment; filename="usage-by-${range.by}.csv"`);
      if (request.method === 'HEAD') response.end();
      else await sendPieces(response, first, buffers);
    } catch (error) {
      if (error instanceof UsageCsvError && !response.headersSent) {
        response.status(503).json({ state: error.state, problem: error.message });
      } else if (error instanceof UsageCsvError) {
        brokenOff(error.message);
        response.destroy();
      } else if (!gone.signal.aborted) {
        throw error;
      }
    }
  });

  return router;
}

async function sendPieces(
  response: Response,
  first: IteratorResult<string, void>,
  rest: AsyncIterable<string>,
): Promise<void> {
  async function* all(): AsyncGenerator<string, void, undefined> {
    if (first.done === true) return;
    yield first.value;
    yield* rest;
  }
  await pipeline(Readable.from(all(), { objectMode: true, highWaterMark: 1 }), response);
}
