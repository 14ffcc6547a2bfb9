import type { ServerResponse } from 'node:http';
import { HttpListener } from '../transport/http-listener.ts';
import type { RelayStatus } from './relay-status.ts';
import type { HealthProbes, ProbeResult } from './health-probes.ts';

/** The parts of the relay that the status server reports on. */
export interface StatusSource {
  readonly status: () => RelayStatus;
  /** Why clients are rejected, whatever address they come from; null if they are not. */
  readonly rejectionProblem: () => string | null;
  /** Null until the relay listens. */
  readonly probes: () => HealthProbes | null;
  /** For Prometheus, in its text format. */
  readonly metrics: { readonly contentType: string; render(): Promise<string> };
  /** A route handler failed because of a bug; the response was aborted. */
  readonly onInternalError: (error: unknown) => void;
}

/** Body of a health check response. */
export interface HealthReport {
  readonly ok: boolean;
  /** One line that describes the problem; null without one. */
  readonly problem: string | null;
  /** For `/health/relay`: one probe per listener. */
  readonly listeners?: readonly ProbeResult[];
  /** For `/health/transfer`. */
  readonly transfers?: readonly ProbeResult[];
}

type RouteHandler = (response: ServerResponse) => Promise<void> | void;

/**
 * One request per connection, so that transfers get their turn between two requests. Responses fit into the
 * kernel's send buffer. Liveness responses are immediate and use none of the `maxAnswering` slots.
 */
const HTTP_LIMITS = { maxPending: 32, maxAnswering: 16, keepAliveMs: null, stallTimeoutMs: 10_000 };

/** The HTTP server for operators. Its connections appear in no metric or limit of clients. */
export function createStatusServer(source: StatusSource): HttpListener {
  const routes = new Map<string, RouteHandler>([
    ['/healthz', sendLiveness],
    ['/livez', sendLiveness],
    ['/readyz', (response) => sendReadiness(response, source)],
    [
      '/metrics',
      async (response) => send(response, 200, source.metrics.contentType, await source.metrics.render()),
    ],
    ['/status.json', (response) => sendJson(response, 200, source.status())],
    ['/health/relay', (response) => sendHealth(response, source, 'listeners')],
    ['/health/transfer', (response) => sendHealth(response, source, 'transfers')],
  ]);
  return new HttpListener((request, response) => {
    request.resume();
    // No URL parser, because it would throw if the request target is not a URL.
    const [path = ''] = (request.url ?? '').split('?', 1);
    const answer = routes.get(path);
    if (answer === undefined) send(response, 404, 'text/plain', 'not found\n');
    else if (request.method !== 'GET' && request.method !== 'HEAD')
      response.writeHead(405, { allow: 'GET, HEAD' }).end();
    else void respond(response, answer, source);
  }, HTTP_LIMITS);
}

async function respond(response: ServerResponse, answer: RouteHandler, source: StatusSource): Promise<void> {
  try {
    await answer(response);
  } catch (error) {
    response.destroy();
    source.onInternalError(error);
  }
}

/** A response is proof of life. Nothing else is checked, because a busy relay must not be restarted. */
function sendLiveness(response: ServerResponse): void {
  send(response, 200, 'text/plain', 'ok\n');
}

/** Whether to send clients to this relay: only while it listens and is not draining. */
function sendReadiness(response: ServerResponse, source: StatusSource): void {
  const problem = readinessProblem(source);
  send(response, problem === null ? 200 : 503, 'text/plain', `${problem ?? 'ok'}\n`);
}

function readinessProblem(source: StatusSource): string | null {
  if (source.status().draining) return 'the relay is stopping';
  return source.probes() === null ? 'the relay is starting' : null;
}

async function sendHealth(
  response: ServerResponse,
  source: StatusSource,
  check: 'listeners' | 'transfers',
): Promise<void> {
  const probes = source.probes();
  // While this relay drains, another process may already listen on the same ports and count probes as clients.
  const results = probes === null || source.status().draining ? [] : await probes[check]();
  const problem = readinessProblem(source) ?? problemOf(results) ?? clientProblem(source, check);
  const report: HealthReport = { ok: problem === null, problem, [check]: results };
  sendJson(response, report.ok ? 200 : 503, report);
}

/**
 * Probes are exempt from all limits, so they succeed while clients are rejected. `/health/relay` ignores that,
 * because container health checks use it: a busy relay must not be restarted.
 */
function clientProblem(source: StatusSource, check: 'listeners' | 'transfers'): string | null {
  return check === 'transfers' ? source.rejectionProblem() : null;
}

function problemOf(results: readonly ProbeResult[]): string | null {
  const problems = results
    .filter(({ ok }) => !ok)
    .map(({ from, to, problem }) => `${from === to ? from : `${from} to ${to}`}: ${problem}`);
  return problems.length === 0 ? null : problems.join('; ');
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  send(response, status, 'application/json', `${JSON.stringify(value)}\n`);
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
  });
  response.end(body);
}
