import type { RequestOptions } from 'node:http';
import { reachableHost } from '../config/endpoint.ts';
import type { BoundEndpoint } from '../config/endpoint.ts';
import { formatConfigError } from '../config/environment.ts';
import type { ConfigResult } from '../config/environment.ts';
import { readRelayConfig } from '../config/relay-config.ts';
import type { SidecarConfig } from '../config/sidecar-config.ts';
import { EXIT, UsageError, parseArguments, similarTo } from './arguments.ts';

// An import would also load fetch and WebSocket with node:http, which takes longer than everything else here.
const { get } = process.getBuiltinModule('node:http');

/** Time for a response, in milliseconds. Together with the start of this process it is less than 2 s. */
const TIMEOUT_MS = 1500;

/** Longer responses come from another program. In characters. */
const MAX_RESPONSE_LENGTH = 1_000_000;

/** Why a check failed: the service is unhealthy, or cannot be checked. */
class CheckError extends Error {}

/**
 * Each loads its modules when it runs, because one of them may run every two seconds. They resolve with details
 * of a success, or reject with a CheckError.
 */
const CHECKS: ReadonlyMap<string, () => Promise<string>> = new Map([
  ['relay', () => checkRelay('/health/relay')],
  ['transfer', () => checkRelay('/health/transfer')],
  ['sidecar', checkSidecar],
  ['snapshot', checkSnapshot],
]);

/**
 * @returns the exit code
 * @throws UsageError
 */
export async function healthcheckCommand(args: readonly string[]): Promise<number> {
  const { positionals } = parseArguments(args, {});
  const [word = ''] = positionals;
  const words = [...CHECKS.keys()];
  if (positionals.length !== 1) throw new UsageError(`one word is needed: ${words.join(', ')}`);
  if (!CHECKS.has(word))
    throw new UsageError(`unknown check ${JSON.stringify(word)}${similarTo(word, words)}`);
  return await runHealthcheck(word);
}

/** Runs a check and prints one line. Returns the exit code. An unknown check fails. */
export async function runHealthcheck(word: string): Promise<number> {
  const [exitCode, line] = await outcomeOf(word);
  process.stdout.write(`${line.replaceAll(/\s+/gu, ' ')}\n`);
  return exitCode;
}

async function outcomeOf(word: string): Promise<[exitCode: number, line: string]> {
  const check = CHECKS.get(word);
  if (check === undefined)
    return [
      EXIT.failed,
      `unknown check ${JSON.stringify(word)}; use one of ${[...CHECKS.keys()].join(', ')}`,
    ];
  try {
    return [EXIT.ok, `${word}: ${await check()}`];
  } catch (error) {
    const message = messageOf(error);
    return [
      EXIT.failed,
      `${word}: ${error instanceof CheckError ? message : `the check failed (${message})`}`,
    ];
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : 'unknown';
}

async function checkRelay(path: string): Promise<string> {
  const { listen } = configOf(readRelayConfig(process.env, process.pid));
  return await checkEndpoint(listen.status, 'RELAY_STATUS_LISTEN', path);
}

async function checkSidecar(): Promise<string> {
  const { listen } = await sidecarConfig();
  return await checkEndpoint(listen, 'SIDECAR_LISTEN', '/healthz');
}

async function checkSnapshot(): Promise<string> {
  const { directory, intervalMs } = (await sidecarConfig()).snapshots;
  const { checkNewestSnapshot } = await import('../sidecar/snapshots/snapshot-check.ts');
  const problem = await checkNewestSnapshot({ directory, maxAgeMs: 2 * intervalMs, now: Date.now() });
  if (problem !== null) throw new CheckError(problem);
  return 'ok';
}

async function sidecarConfig(): Promise<SidecarConfig> {
  const { readSidecarConfig } = await import('../config/sidecar-config.ts');
  return configOf(readSidecarConfig(process.env));
}

function configOf<T>(read: ConfigResult<T>): T {
  if (read.kind === 'ok') return read.config;
  throw new CheckError(read.errors.map(formatConfigError).join(' '));
}

async function checkEndpoint(
  [endpoint]: readonly BoundEndpoint[],
  variable: string,
  path: string,
): Promise<string> {
  if (endpoint === undefined) throw new CheckError(`${variable} is off; the check needs it`);
  if (endpoint.kind === 'tcp' && endpoint.port === 0)
    throw new CheckError(`${variable} uses port 0; set a fixed port`);
  const response = await fetchText({ ...addressOf(endpoint), path }).catch((error: unknown) => {
    throw new CheckError(`no response at ${variable} (${messageOf(error)})`, { cause: error });
  });
  const report = parseReport(response);
  if (report === null) throw new CheckError(`unexpected response at ${variable}`);
  return detailsOf(report);
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

function detailsOf(report: { readonly ok: unknown }): string {
  if (report.ok !== true) {
    const hasReason = 'problem' in report && typeof report.problem === 'string';
    throw new CheckError(hasReason ? String(report.problem) : 'reported unhealthy without a reason');
  }
  const transfers = 'transfers' in report && Array.isArray(report.transfers) ? report.transfers : [];
  return ['ok', transfers.map(latencyOf).join(', ')].filter(Boolean).join(': ');
}

function latencyOf(transfer: unknown): string {
  const { from, to, milliseconds } = Object.assign({ from: '', to: '', milliseconds: 0 }, transfer);
  return `${from === to ? from : `${from} to ${to}`} ${milliseconds} ms`;
}
