import type { RequestOptions } from 'node:http';
import { reachableHost } from './config/endpoint.ts';
import type { BoundEndpoint } from './config/endpoint.ts';
import { formatConfigError } from './config/environment.ts';
import type { ConfigResult } from './config/environment.ts';
import { readRelayConfig } from './config/relay-config.ts';
import type { RelayConfig } from './config/relay-config.ts';
import type { SidecarConfig } from './config/sidecar-config.ts';

// An import would also load fetch and WebSocket with node:http, which takes longer than everything else here.
const { get } = process.getBuiltinModule('node:http');

/** Time for a response, in milliseconds. Together with the start of this process it is less than 2 s. */
const TIMEOUT_MS = 1500;

/** Longer responses come from another program. In characters. */
const MAX_RESPONSE_LENGTH = 1_000_000;

/** The result of a check, as a line without its name: the problem, or details of a success. */
interface CheckResult {
  readonly ok: boolean;
  readonly text: string;
}

const unhealthy = (text: string): CheckResult => ({ ok: false, text });

/** Each loads its modules when it runs, because one of them may run every two seconds. */
const CHECKS: ReadonlyMap<string, () => Promise<CheckResult>> = new Map([
  ['relay', () => checkRelay('/health/relay')],
  ['transfer', () => checkRelay('/health/transfer')],
  ['sidecar', checkSidecar],
  ['snapshot', checkSnapshot],
]);

const checkNames = [...CHECKS.keys()].join(', ');
const [, , checkName = ''] = process.argv;
const result = await run(CHECKS.get(checkName));
process.stdout.write(`${result.text.replaceAll(/\s+/gu, ' ')}\n`);
process.exitCode = result.ok ? 0 : 1;

async function run(check: (() => Promise<CheckResult>) | undefined): Promise<CheckResult> {
  if (check === undefined)
    return unhealthy(`unknown check ${JSON.stringify(checkName)}; use one of ${checkNames}`);
  try {
    const { ok, text } = await check();
    return { ok, text: `${checkName}: ${text}` };
  } catch (error) {
    return unhealthy(`${checkName}: the check failed (${messageOf(error)})`);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : 'unknown';
}

async function checkRelay(path: string): Promise<CheckResult> {
  const config = configOf<RelayConfig>(readRelayConfig(process.env, process.pid));
  if (typeof config === 'string') return unhealthy(config);
  return checkEndpoint(config.listen.status, 'RELAY_STATUS_LISTEN', path);
}

async function checkSidecar(): Promise<CheckResult> {
  const config = await sidecarConfig();
  return typeof config === 'string'
    ? unhealthy(config)
    : checkEndpoint(config.listen, 'SIDECAR_LISTEN', '/healthz');
}

async function checkSnapshot(): Promise<CheckResult> {
  const config = await sidecarConfig();
  if (typeof config === 'string') return unhealthy(config);
  const { checkNewestSnapshot } = await import('./sidecar/snapshots/snapshot-check.ts');
  const { directory, intervalMs } = config.snapshots;
  const problem = await checkNewestSnapshot({ directory, maxAgeMs: 2 * intervalMs, now: Date.now() });
  return problem === null ? { ok: true, text: 'ok' } : unhealthy(problem);
}

async function sidecarConfig(): Promise<SidecarConfig | string> {
  const { readSidecarConfig } = await import('./config/sidecar-config.ts');
  return configOf<SidecarConfig>(readSidecarConfig(process.env));
}

/** The configuration, or its errors as text. */
function configOf<T>(read: ConfigResult<T>): T | string {
  return read.kind === 'ok' ? read.config : read.errors.map(formatConfigError).join(' ');
}

async function checkEndpoint(
  [endpoint]: readonly BoundEndpoint[],
  variable: string,
  path: string,
): Promise<CheckResult> {
  if (endpoint === undefined) return unhealthy(`${variable} is off; the check needs it`);
  if (endpoint.kind === 'tcp' && endpoint.port === 0)
    return unhealthy(`${variable} uses port 0; set a fixed port`);
  try {
    const report = parseReport(await fetchText({ ...addressOf(endpoint), path }));
    return report === null ? unhealthy(`unexpected response at ${variable}`) : resultOf(report);
  } catch (error) {
    return unhealthy(`no response at ${variable} (${messageOf(error)})`);
  }
}

function addressOf(endpoint: BoundEndpoint): RequestOptions {
  if (endpoint.kind === 'unix') return { socketPath: endpoint.path };
  return { host: reachableHost(endpoint), port: endpoint.port };
}

/** Resolves with the body whatever the status is. The body says whether the service is healthy. */
function fetchText(where: RequestOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    signal.addEventListener('abort', () => reject(new Error(`timed out after ${TIMEOUT_MS} ms`)));
    const request = get({ ...where, signal, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > MAX_RESPONSE_LENGTH) request.destroy(new Error('response too long'));
      });
      response.on('end', () => resolve(text));
      response.on('error', reject);
    });
    request.on('error', reject);
  });
}

/** Null if the response comes from another program. */
function parseReport(response: string): { readonly ok: unknown } | null {
  try {
    const report: unknown = JSON.parse(response);
    return typeof report === 'object' && report !== null && 'ok' in report ? report : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function resultOf(report: { readonly ok: unknown }): CheckResult {
  if (report.ok !== true) {
    const hasReason = 'problem' in report && typeof report.problem === 'string';
    return unhealthy(hasReason ? String(report.problem) : 'reported unhealthy without a reason');
  }
  const transfers = 'transfers' in report && Array.isArray(report.transfers) ? report.transfers : [];
  return { ok: true, text: ['ok', transfers.map(latencyOf).join(', ')].filter(Boolean).join(': ') };
}

function latencyOf(transfer: unknown): string {
  const { from, to, milliseconds } = Object.assign({ from: '', to: '', milliseconds: 0 }, transfer);
  return `${from === to ? from : `${from} to ${to}`} ${milliseconds} ms`;
}
