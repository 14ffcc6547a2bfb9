import { STATUS_CODES } from 'node:http';
import compression from 'compression';
import express from 'express';
import type { ErrorRequestHandler, Express, RequestHandler, Response } from 'express';
import { rejectCrossSite, requireLocalHostname, requireToken } from './access.ts';
import type { Health, LiveHistory, LiveStatus } from './api.ts';
import { MAX_HISTORY_SECONDS } from './live-history.ts';
import type { SidecarMetrics } from './metrics.ts';
import { SNAPSHOT_CONTENT_TYPE, isCompressed } from './snapshots/snapshot-routes.ts';

/** Data sources of the HTTP server; functions are called per request. */
export interface AppDependencies {
  /** The HTML page. */
  readonly page: string;
  /**
   * The files that the page loads, by name. They are small and served from memory, so that no request accesses
   * the file system.
   */
  readonly assets: ReadonlyMap<string, string>;
  readonly readLiveStatus: () => Promise<LiveStatus>;
  /** @param seconds range of the coarse series; undefined: an hour */
  readonly readHistory: (seconds?: number) => LiveHistory;
  readonly health: Readonly<Record<'relay' | 'transfer' | 'snapshot', () => Promise<Health>>>;
  readonly metrics: SidecarMetrics;
  /** All other routes. */
  readonly routes: RequestHandler;
  /** An internal error; the request was answered with 500. */
  readonly onInternalError: (error: unknown) => void;
}

/** The page loads nothing from other hosts, runs no inline scripts or styles, and can't be framed. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** For the largest responses: half the time of zlib's default, and a few per cent more bytes. */
const COMPRESSION_LEVEL = 4;

/** @param token null: no authentication */
export function createApp(source: AppDependencies, token: string | null): Express {
  const app = express();
  app.disable('x-powered-by');
  app.set('query parser', 'simple');
  app.use(setSecurityHeaders);
  app.get('/healthz', (_request, response) => sendHealth(response, { ok: true, problem: null }));
  app.use(token === null ? requireLocalHostname : requireToken(token));
  app.use(rejectCrossSite);
  app.use(
    compression({
      level: COMPRESSION_LEVEL,
      filter: (request, response) =>
        isCompressed(request) &&
        (response.getHeader('content-type') === SNAPSHOT_CONTENT_TYPE ||
          compression.filter(request, response)),
    }),
  );
  app.get('/', (_request, response) => response.type('html').send(source.page));
  app.get('/assets/:name', (request, response) => {
    const { name } = request.params;
    const body = source.assets.get(name);
    if (body === undefined) sendNotFound(response);
    else response.type(name.endsWith('.css') ? 'css' : 'js').send(body);
  });
  app.get('/live.json', async (_request, response) => response.json(await source.readLiveStatus()));
  app.get('/live-history.json', (request, response) => {
    const { seconds } = request.query;
    const range = seconds === undefined ? undefined : toHistoryRange(seconds);
    if (range === null) response.status(400).json({ problem: HISTORY_RANGE_PROBLEM });
    else response.json(source.readHistory(range));
  });
  for (const [name, check] of Object.entries(source.health)) {
    app.get(`/health/${name}`, async (_request, response) => sendHealth(response, await check()));
  }
  app.get('/metrics', async (_request, response) => {
    response.setHeader('content-type', source.metrics.contentType);
    response.send(await source.metrics.render());
  });
  app.use(source.routes);
  app.use((_request, response) => sendNotFound(response));
  app.use(createErrorHandler(source.onInternalError));
  return app;
}

const HISTORY_RANGE_PROBLEM = `"seconds" must be a whole number from 1 to ${MAX_HISTORY_SECONDS}`;

/** Null if the parameter is invalid. */
function toHistoryRange(text: unknown): number | null {
  if (typeof text !== 'string' || !/^\d{1,5}$/u.test(text)) return null;
  const seconds = Number(text);
  return seconds >= 1 && seconds <= MAX_HISTORY_SECONDS ? seconds : null;
}

const setSecurityHeaders: RequestHandler = (_request, response, next) => {
  response.setHeader('content-security-policy', CONTENT_SECURITY_POLICY);
  response.setHeader('x-content-type-options', 'nosniff');
  response.setHeader('x-frame-options', 'DENY');
  response.setHeader('referrer-policy', 'no-referrer');
  response.setHeader('cross-origin-resource-policy', 'same-origin');
  // Browsers revalidate each time; an unchanged response then has no body.
  response.setHeader('cache-control', 'no-cache');
  next();
};

function sendHealth(response: Response, health: Health): void {
  response.status(health.ok ? 200 : 503).json(health);
}

function sendNotFound(response: Response): void {
  response.status(404).json({ problem: 'not found; the start page is /' });
}

function createErrorHandler(onInternalError: (error: unknown) => void): ErrorRequestHandler {
  // Express recognizes error handlers by their four parameters.
  return (error: unknown, _request, response, _next) => {
    const status = errorStatus(error);
    if (status >= 500) onInternalError(error);
    // The headers are sent already. Closing the connection tells the client that the response is incomplete.
    if (response.headersSent) {
      response.destroy();
      return;
    }
    for (const header of REPRESENTATION_HEADERS) response.removeHeader(header);
    response.status(status).json({ problem: (STATUS_CODES[status] ?? 'bad request').toLowerCase() });
  };
}

/** Headers that a route may have set before it failed. */
const REPRESENTATION_HEADERS = [
  'content-disposition',
  'content-location',
  'content-type',
  'etag',
  'last-modified',
] as const;

/** Express and its libraries give errors of the client a 4xx status. */
function errorStatus(error: unknown): number {
  if (!(error instanceof Error) || !('status' in error) || typeof error.status !== 'number') return 500;
  return error.status >= 400 && error.status < 500 ? error.status : 500;
}
