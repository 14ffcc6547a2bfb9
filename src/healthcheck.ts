import { get } from 'node:http';
import type { RequestOptions } from 'node:http';
import { formatFault } from './config/config.ts';
import type { Config } from './config/config.ts';
import { readEnv } from './config/read-env.ts';
import type { ReadResult } from './config/read-env.ts';
import type { SidecarConfig } from './config/sidecar-config.ts';
import type { Endpoint } from './net/endpoint.ts';

/** Time for an answer, in milliseconds; with the start of this process it makes less than 2 s. */
const TIMEOUT_MS = 1500;

/** Longer answers are none of ours, in characters. */
const MAX_ANSWER_LENGTH = 1_000_000;

/**
 * What is wrong, in one line; null when nothing is. Checks load what they need when they run: one of them does so every
 * two seconds.
 */
type Verdict = string | null;

const CHECKS: ReadonlyMap<string, () => Promise<Verdict>> = new Map([
  ['relay', () => askRelay('/health/relay')],
  ['transfer', () => askRelay('/health/transfer')],
  ['sidecar', askSidecar],
  ['snapshot', checkSnapshot],
]);

const words = [...CHECKS.keys()].join(', ');
const [, , word = ''] = process.argv;
const verdict = await run(CHECKS.get(word));
process.stdout.write(`${verdict ?? `${word}: ok`}\n`);
process.exitCode = verdict === null ? 0 : 1;

async function run(check: (() => Promise<Verdict>) | undefined): Promise<Verdict> {
  if (check === undefined) return `${JSON.stringify(word)} is no check; there are ${words}`;
  try {
    const problem = await check();
    return problem === null ? null : `${word}: ${inOneLine(problem)}`;
  } catch (error) {
    return `${word}: the check failed (${inOneLine(error instanceof Error ? error.message : 'unknown')})`;
  }
}

function inOneLine(text: string): string {
  return text.replaceAll(/\s+/gu, ' ');
}

async function askRelay(path: string): Promise<Verdict> {
  const config = configOf<Config>(readEnv(process.env));
  if (typeof config === 'string') return config;
  return ask(config.listen.status, 'RELAY_STATUS_LISTEN', path);
}

async function askSidecar(): Promise<Verdict> {
  const config = await sidecarConfig();
  return typeof config === 'string' ? config : ask(config.listen, 'SIDECAR_LISTEN', '/healthz');
}

async function checkSnapshot(): Promise<Verdict> {
  const config = await sidecarConfig();
  if (typeof config === 'string') return config;
  const { checkNewest } = await import('./sidecar/snapshot-check.ts');
  const { directory, everyMs } = config.snapshots;
  return checkNewest(directory, 2 * everyMs, Date.now());
}

async function sidecarConfig(): Promise<SidecarConfig | string> {
  const { readSidecarEnv } = await import('./config/sidecar-config.ts');
  return configOf<SidecarConfig>(readSidecarEnv(process.env));
}

/** The configuration, or what is wrong with it. */
function configOf<T>(read: ReadResult<T>): T | string {
  return read.kind === 'ok' ? read.config : read.faults.map(formatFault).join(' ');
}

async function ask([endpoint]: readonly Endpoint[], variable: string, path: string): Promise<Verdict> {
  if (endpoint === undefined) return `${variable} is off, and nobody else can be asked`;
  if (endpoint.kind === 'tcp' && endpoint.port === 0)
    return `${variable} is port 0, which may be any: give it a number`;
  try {
    const report = parseReport(await fetchText({ ...addressOf(endpoint), path }));
    return report === null ? `what answers at ${variable} is something else` : problemIn(report);
  } catch (error) {
    return `no answer at ${variable} (${error instanceof Error ? error.message : 'unknown'})`;
  }
}

function addressOf(endpoint: Endpoint): RequestOptions {
  if (endpoint.kind === 'unix') return { socketPath: endpoint.path };
  const everywhere = endpoint.interface === null || ['::', '0.0.0.0'].includes(endpoint.interface);
  return { host: everywhere ? '127.0.0.1' : (endpoint.interface ?? ''), port: endpoint.port };
}

/** Resolves with the body whatever the status is; a healthy answer and a sick one differ in what they say. */
function fetchText(where: RequestOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    signal.addEventListener('abort', () => reject(new Error(`nothing for ${TIMEOUT_MS} ms`)));
    const request = get({ ...where, signal, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > MAX_ANSWER_LENGTH) request.destroy(new Error('an endless answer'));
      });
      response.on('end', () => resolve(text));
      response.on('error', reject);
    });
    request.on('error', reject);
  });
}

/** Null where the answer is not one of ours. */
function parseReport(answer: string): { readonly ok: unknown } | null {
  try {
    const report: unknown = JSON.parse(answer);
    return typeof report === 'object' && report !== null && 'ok' in report ? report : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function problemIn(report: { readonly ok: unknown }): Verdict {
  if (report.ok === true) return null;
  return 'problem' in report && typeof report.problem === 'string'
    ? report.problem
    : 'it says that it is not well';
}
