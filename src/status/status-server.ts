import type { ServerResponse } from 'node:http';
import { HttpListener } from '../transport/http-listener.ts';
import type { RelayStatus } from './relay-status.ts';
import type { HealthProbes, ProbeResult } from './health-probes.ts';

/** What the status server tells of. */
export interface StatusSource {
  readonly status: () => RelayStatus;
  /** Null until the relay listens. */
  readonly probes: () => HealthProbes | null;
  /** For Prometheus. */
  readonly metrics: { readonly contentType: string; render(): Promise<string> };
  /** Something in this program is wrong; the answer was broken off. */
  readonly onInternalError: (error: unknown) => void;
}

/** The answer of a check. */
export interface HealthReport {
  readonly ok: boolean;
  /** One line that says what is wrong; null when nothing is. */
  readonly problem: string | null;
  /** Of `/health/relay`: a client came to each. */
  readonly listeners?: readonly ProbeResult[];
  /** Of `/health/transfer`. */
  readonly transfers?: readonly ProbeResult[];
}

type RouteHandler = (response: ServerResponse) => Promise<void> | void;

/**
 * A connection makes one request, so that a transfer gets its turn between two of them. Answers fit into the kernel's buffer.
 * Liveness probes are answered at once and need no slot for answers that take time.
 */
const HTTP_LIMITS = { maxPending: 32, maxAnswering: 16, keepAliveMs: null, stallTimeoutMs: 10_000 };

/** HTTP for operators. It counts nothing and is counted nowhere. */
export function createStatusServer(source: StatusSource): HttpListener {
  const routes: ReadonlyMap<string, RouteHandler> = new Map<string, RouteHandler>([
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
    // No URL parser: a request target need not be a URL, and this must not throw.
    const [path = ''] = (request.url ?? '').split('?', 1);
    const answer = routes.get(path);
    if (answer === undefined) send(response, 404, 'text/plain', 'not found\n');
    else if (request.method !== 'GET' && request.method !== 'HEAD')
      response.writeHead(405, { allow: 'GET, HEAD' }).end();
    else void respond(response, answer, source);
  }, HTTP_LIMITS);
}

async function respond(
  response: ServerResponse,
  answer: RouteHandler,
  { onInternalError: fault }: StatusSource,
): Promise<void> {
  try {
    await answer(response);
  } catch (error) {
    response.destroy();
    fault(error);
  }
}

/** Who answers lives. Nothing else is looked at, or a busy relay would be taken for a dead one. */
function sendLiveness(response: ServerResponse): void {
  send(response, 200, 'text/plain', 'ok\n');
}

/** Whether clients should be sent here: not before it listens, and no longer when it stops. */
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
  const selfTest = source.probes();
  // Where a relay stops, another may listen already, and take our test for clients of its own.
  const results = selfTest === null || source.status().draining ? [] : await selfTest[check]();
  const problem = readinessProblem(source) ?? problemOf(results);
  const report: HealthReport = { ok: problem === null, problem, [check]: results };
  sendJson(response, report.ok ? 200 : 503, report);
}

function problemOf(results: readonly ProbeResult[]): string | null {
  const failed = results.filter(({ ok }) => !ok);
  if (failed.length === 0) return null;
  return failed
    .map(({ from, to, problem }) => `${from === to ? from : `${from} to ${to}`}: ${problem}`)
    .join('; ');
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
