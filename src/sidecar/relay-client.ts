import { get } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { errorCode } from '../process/errors.ts';
import type { RelayStatus } from '../status/relay-status.ts';
import type { Health, RelayState } from './api.ts';
import { toRelayStatus } from './live-status.ts';

/** Timeout for the relay's status, in milliseconds; the relay answers at once. */
export const STATUS_TIMEOUT_MS = 1000;

/** Timeout for a health check, in milliseconds; the relay has to run it first. */
export const CHECK_TIMEOUT_MS = 1800;

/** The relay's status is cached for this long, however many pages request it. In milliseconds. */
const STATUS_TTL_MS = 500;

/** Larger than any answer of a relay, in bytes. */
const MAX_ANSWER_BYTES = 2 ** 20;

/** The relay's answer to a health check, with additional details. */
interface RelayHealth extends Health {
  readonly [detail: string]: unknown;
}

/** The service answered, but not as a relay would. */
class IncompatibleAnswer extends Error {}

/**
 * Client of the relay's status port. It uses `node:http`, because with `fetch` once a second the process takes 20 MB
 * more.
 */
export class RelayClient {
  readonly #url: string;
  #cached: { readonly state: Promise<RelayState>; readonly at: number } | null = null;

  /** @param url base URL of the status port, without a trailing slash */
  constructor(url: string) {
    this.#url = url;
  }

  /** The current state of the relay. Never rejects: a relay that does not answer is `down`. */
  state(): Promise<RelayState> {
    const now = performance.now();
    if (this.#cached === null || now - this.#cached.at >= STATUS_TTL_MS)
      this.#cached = { state: this.#requestState(), at: now };
    return this.#cached.state;
  }

  /** Runs a health check of the relay. Never rejects. */
  async health(check: 'relay' | 'transfer'): Promise<RelayHealth> {
    const answer = await this.#request(`/health/${check}`, CHECK_TIMEOUT_MS, toHealth);
    return typeof answer === 'string' ? { ok: false, problem: answer } : answer;
  }

  async #requestState(): Promise<RelayState> {
    const answer = await this.#request<RelayStatus>('/status.json', STATUS_TIMEOUT_MS, toRelayStatus);
    return typeof answer === 'string' ? { state: 'down', problem: answer } : answer;
  }

  /** Returns the answer, or a sentence with the problem. */
  async #request<Answer>(
    path: string,
    timeoutMs: number,
    parse: (value: unknown) => Answer | null,
  ): Promise<Answer | string> {
    try {
      const answer = parse(await getJson(this.#url + path, timeoutMs));
      if (answer !== null) return answer;
    } catch (error) {
      if (!isIncompatible(error)) {
        const reason = error instanceof TimeoutError ? 'timeout' : errorCode(error);
        return `the relay's status port does not answer at ${this.#url} (${reason})`;
      }
    }
    return `the service at ${this.#url} is not a compatible transit relay`;
  }
}

class TimeoutError extends Error {}

/** The answer was no HTTP, no JSON, a redirect, or too long. */
function isIncompatible(error: unknown): boolean {
  return (
    error instanceof IncompatibleAnswer || error instanceof SyntaxError || errorCode(error).startsWith('HPE_')
  );
}

async function getJson(url: string, timeoutMs: number): Promise<unknown> {
  // Loaded on demand, because only few sidecars need it.
  const send = url.startsWith('https:') ? (await import('node:https')).get : get;
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  // Without an agent, the connection is closed after the answer, as the relay does too.
  const request = send(url, { agent: false }, (response) => void readText(response).then(resolve, reject));
  request.on('error', reject);
  const timeout = setTimeout(() => request.destroy(new TimeoutError()), timeoutMs);
  try {
    const value: unknown = JSON.parse(await promise);
    return value;
  } finally {
    clearTimeout(timeout);
    request.destroy();
  }
}

async function readText(response: IncomingMessage): Promise<string> {
  const { statusCode = 0 } = response;
  if (statusCode >= 300 && statusCode < 400) throw new IncompatibleAnswer();
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    if (!Buffer.isBuffer(chunk)) continue;
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_ANSWER_BYTES) throw new IncompatibleAnswer();
  }
  return Buffer.concat(chunks).toString('utf8');
}

function toHealth(answer: unknown): RelayHealth | null {
  return isHealth(answer) ? answer : null;
}

function isHealth(answer: unknown): answer is RelayHealth {
  if (typeof answer !== 'object' || answer === null || !('ok' in answer && 'problem' in answer)) return false;
  return typeof answer.ok === 'boolean' && (answer.problem === null || typeof answer.problem === 'string');
}
