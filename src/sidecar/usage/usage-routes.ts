import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Router } from 'express';
import type { ErrorRequestHandler, Response } from 'express';
import { GRANULARITIES } from '../api.ts';
import type { JobRunner } from '../job-pool.ts';
import { UsageCsvError, streamUsageCsv } from './usage-csv.ts';
import { CSV_GRANULARITIES, InvalidParamError, parseUsageParams } from './usage-params.ts';
import type { UsageReports } from './usage-reports.ts';
import type { UsageSource } from './usage-source.ts';

/**
 * Routes of `/usage.json` and `/usage.csv`.
 *
 * @param onCsvAborted called with the reason if a download fails after it has started
 */
export function usageRoutes(
  reports: UsageReports,
  source: UsageSource,
  pool: JobRunner<'csvPage'>,
  onCsvAborted: (problem: string) => void,
): Router {
  const router = Router();

  router.get('/usage.json', async (request, response) => {
    const outcome = await reports.report(parseUsageParams(request.query, GRANULARITIES, Date.now()));
    if (outcome.kind === 'ok') response.json(outcome.report);
    else if (outcome.kind === 'rejected') response.status(400).json({ problem: outcome.problem });
    else response.status(503).json({ state: outcome.state, problem: outcome.problem });
  });

  router.get('/usage.csv', async (request, response) => {
    const nowMs = Date.now();
    const range = parseUsageParams(request.query, CSV_GRANULARITIES, nowMs);
    const closed = new AbortController();
    response.once('close', () => closed.abort());
    const pages = streamUsageCsv({ source, pool, range, nowMs, signal: closed.signal });
    try {
      // An error on the first page gets a proper response; a later one closes the connection.
      const first = await pages.next();
      response.setHeader('content-type', 'text/csv; charset=utf-8');
      response.setHeader('content-disposition', `attachment; filename="usage-by-${range.by}.csv"`);
      if (request.method === 'HEAD') response.end();
      else await sendPages(response, first, pages);
    } catch (error) {
      if (error instanceof UsageCsvError && !response.headersSent) {
        response.status(503).json({ state: error.state, problem: error.message });
      } else if (error instanceof UsageCsvError) {
        onCsvAborted(error.message);
        response.destroy();
      } else if (!closed.signal.aborted) {
        throw error;
      }
    }
  });

  router.use(handleInvalidParams);
  return router;
}

const handleInvalidParams: ErrorRequestHandler = (error: unknown, _request, response, next) => {
  if (error instanceof InvalidParamError) response.status(400).json({ problem: error.message });
  else next(error);
};

async function sendPages(
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
