import { STATUS_CODES } from 'node:http';
import compression from 'compression';
import express from 'express';
import type { ErrorRequestHandler, Express, RequestHandler, Response } from 'express';
import { rejectCrossSite, requireLocalHostname, requireToken } from './access.ts';
import type { Health, LiveStatus } from './api.ts';
import type { Asset } from './assets.ts';
import type { SidecarMetrics } from './metrics.ts';
import { SNAPSHOT_CONTENT_TYPE, isCompressed } from './snapshots/snapshot-routes.ts';

/** What the server tells of; each is asked when somebody wants to know. */
export interface AppDependencies {
  readonly page: string;
  readonly assets: ReadonlyMap<string, Asset>;
  readonly readLiveStatus: () => Promise<LiveStatus>;
  readonly health: Readonly<Record<'relay' | 'transfer' | 'snapshot', () => Promise<Health>>>;
  readonly metrics: Pick<SidecarMetrics, 'render' | 'contentType'>;
  /** Everything else. */
  readonly routes: RequestHandler;
  /** Something in this program is wrong; the request was answered with 500. */
  readonly onInternalError: (error: unknown) => void;
}

/** The page loads nothing from elsewhere, runs and styles nothing that is written into it, and is in no frame. */
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

/** For the largest answers: half of the time of zlib's default, and a few per cent more bytes. */
const COMPRESSION_LEVEL = 4;

/** @param token null: everybody who can connect may ask */
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
    const asset = source.assets.get(request.params.name);
    if (asset === undefined) sendNotFound(response);
    else response.type(asset.type).send(asset.body);
  });
  app.get('/live.json', async (_request, response) => response.json(await source.readLiveStatus()));
  for (const [check, ask] of Object.entries(source.health)) {
    app.get(`/health/${check}`, async (_request, response) => sendHealth(response, await ask()));
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

const setSecurityHeaders: RequestHandler = (_request, response, next) => {
  response.setHeader('content-security-policy', CONTENT_SECURITY_POLICY);
  response.setHeader('x-content-type-options', 'nosniff');
  response.setHeader('x-frame-options', 'DENY');
  response.setHeader('referrer-policy', 'no-referrer');
  response.setHeader('cross-origin-resource-policy', 'same-origin');
  // To be asked about each time, which costs an answer of nothing when all is as it was.
  response.setHeader('cache-control', 'no-cache');
  next();
};

function sendHealth(response: Response, health: Health): void {
  response.status(health.ok ? 200 : 503).json(health);
}

function sendNotFound(response: Response): void {
  response.status(404).json({ problem: 'there is nothing here; begin at /' });
}

function createErrorHandler(fault: (error: unknown) => void): ErrorRequestHandler {
  // Express knows it by its four parameters.
  return (error: unknown, _request, response, _next) => {
    const status = errorStatus(error);
    if (status >= 500) fault(error);
    // An answer that has begun can't become another one; cut short, it is not taken for whole.
    if (response.headersSent) {
      response.destroy();
      return;
    }
    for (const header of REPRESENTATION_HEADERS) response.removeHeader(header);
    response.status(status).json({ problem: (STATUS_CODES[status] ?? 'bad request').toLowerCase() });
  };
}

/** What a route may have said of its answer before it turned out that there is none. */
const REPRESENTATION_HEADERS = [
  'content-disposition',
  'content-location',
  'content-type',
  'etag',
  'last-modified',
] as const;

/** Express and its parts say what a client did wrong by a status. */
function errorStatus(error: unknown): number {
  if (!(error instanceof Error) || !('status' in error) || typeof error.status !== 'number') return 500;
  return error.status >= 400 && error.status < 500 ? error.status : 500;
}
