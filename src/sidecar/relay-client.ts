import type { RelayStatus } from '../status/relay-status.ts';
import type { Health, RelayState } from './api.ts';

/** Timeout for the relay's status, in milliseconds; the relay answers at once. */
const STATUS_TIMEOUT_MS = 1000;

/** Timeout for a health check, in milliseconds; the relay has to run it first. */
const CHECK_TIMEOUT_MS = 1800;

/** The relay's status is cached for this long, however many pages request it. In milliseconds. */
const STATUS_TTL_MS = 500;

/** The relay's answer to a health check, with additional details. */
export interface RelayHealth extends Health {
  readonly [detail: string]: unknown;
}

/** Client of the relay's status port. */
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
      this.#cached = { state: this.#fetchState(), at: now };
    return this.#cached.state;
  }

  /** Runs a health check of the relay. Never rejects. */
  async health(check: 'relay' | 'transfer'): Promise<RelayHealth> {
    try {
      const answer = await this.#fetchJson(`/health/${check}`, CHECK_TIMEOUT_MS);
      return isHealth(answer) ? answer : { ok: false, problem: this.#unexpectedResponseProblem() };
    } catch (error) {
      return { ok: false, problem: this.#requestProblem(error) };
    }
  }

  async #fetchState(): Promise<RelayState> {
    try {
      const answer = await this.#fetchJson('/status.json', STATUS_TIMEOUT_MS);
      return isStatus(answer)
        ? { ...answer, state: 'up' }
        : { state: 'down', problem: this.#unexpectedResponseProblem() };
    } catch (error) {
      return { state: 'down', problem: this.#requestProblem(error) };
    }
  }

  async #fetchJson(path: string, timeoutMs: number): Promise<unknown> {
    const response = await fetch(this.#url + path, {
      signal: AbortSignal.timeout(timeoutMs),
      redirect: 'error',
    });
    return response.json();
  }

  #unexpectedResponseProblem(): string {
    return `the service at ${this.#url} is not a compatible transit relay`;
  }

  #requestProblem(error: unknown): string {
    if (isUnexpectedResponse(error)) return this.#unexpectedResponseProblem();
    return `the relay's status port does not answer at ${this.#url} (${describeFetchError(error)})`;
  }
}

/** The response was not HTTP, not JSON, or a redirect. */
function isUnexpectedResponse(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof SyntaxError) return true;
  const { cause } = error;
  return (
    cause instanceof Error && (cause.name === 'HTTPParserError' || cause.message === 'unexpected redirect')
  );
}

function describeFetchError(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  if (error.name === 'TimeoutError') return 'timeout';
  const { cause } = error;
  if (!(cause instanceof Error)) return error.message;
  return 'code' in cause ? String(cause.code) : cause.message;
}

function isHealth(answer: unknown): answer is RelayHealth {
  if (typeof answer !== 'object' || answer === null || !('ok' in answer && 'problem' in answer)) return false;
  return typeof answer.ok === 'boolean' && (answer.problem === null || typeof answer.problem === 'string');
}

const STATUS_NUMBERS = ['uptime_seconds', 'pairs', 'waiting', 'relayed_bytes', 'bytes_per_second'] as const;

function isStatus(answer: unknown): answer is RelayStatus {
  if (typeof answer !== 'object' || answer === null) return false;
  const values = new Map<string, unknown>(Object.entries(answer));
  return (
    typeof values.get('started') === 'string' &&
    typeof values.get('draining') === 'boolean' &&
    STATUS_NUMBERS.every((name) => typeof values.get(name) === 'number')
  );
}
