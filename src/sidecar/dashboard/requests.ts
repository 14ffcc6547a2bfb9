import { backoffMs } from './live-state.ts';

/** The response, or a sentence with the problem. `reached` is false if there was no response at all. */
export type FetchResult<T> =
  | { readonly kind: 'ok'; readonly value: T }
  | { readonly kind: 'problem'; readonly reached: boolean; readonly problem: string };

/** Longer than the slowest response takes, unless the server hangs. In milliseconds. */
const TIMEOUT_MS = 60_000;

const UNAUTHORIZED = 401;

/**
 * Sends a request to the sidecar, relative to the URL of the page. Never throws.
 *
 * @param accepts error statuses whose response has type T too
 */
export async function fetchJson<T>(
  address: string,
  { method = 'GET', timeoutMs = TIMEOUT_MS, accepts = [] as readonly number[] } = {},
): Promise<FetchResult<T>> {
  let response: Response;
  try {
    response = await fetch(address, { method, cache: 'no-store', signal: AbortSignal.timeout(timeoutMs) });
  } catch (error) {
    const isTimeout = error instanceof DOMException && error.name === 'TimeoutError';
    const problem = isTimeout
      ? `The sidecar did not answer within ${timeoutMs / 1000} s.`
      : 'There is no connection to the sidecar.';
    return { kind: 'problem', reached: false, problem };
  }
  let problem = `The sidecar answered with status ${response.status}.`;
  try {
    if (response.ok || accepts.includes(response.status)) return { kind: 'ok', value: await response.json() };
    const answer: { readonly problem?: unknown } = await response.json();
    if (typeof answer.problem === 'string') problem = answer.problem;
  } catch {
    // A response that is not JSON comes from a proxy. Its status is the best information.
  }
  if (response.status === UNAUTHORIZED) problem = 'The sidecar requires its token again: reload this page.';
  return { kind: 'problem', reached: true, problem };
}

/** Runs a task periodically while the page is visible, one run at a time, with backoff after failures. */
export class Poller {
  readonly #intervalMs: number;
  readonly #task: () => Promise<boolean>;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #running = false;
  #requestedMs: number | null = null;
  #failures = 0;
  #startedMs = Number.NEGATIVE_INFINITY;

  /**
   * @param intervalMs time between two starts
   * @param task resolves with whether it succeeded; must not reject
   */
  constructor(intervalMs: number, task: () => Promise<boolean>) {
    this.#intervalMs = intervalMs;
    this.#task = task;
    document.addEventListener('visibilitychange', () => this.#schedule(this.#remainingMs(this.#intervalMs)));
  }

  /** Runs the task now, but at the earliest `minIntervalMs` after its last start. */
  trigger(minIntervalMs = 0): void {
    if (this.#running) this.#requestedMs = minIntervalMs;
    else this.#schedule(this.#remainingMs(minIntervalMs));
  }

  #remainingMs(sinceStartMs: number): number {
    return Math.max(0, this.#startedMs + sinceStartMs - performance.now());
  }

  #schedule(delayMs: number): void {
    if (this.#running) return;
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => void this.#run(), delayMs);
  }

  async #run(): Promise<void> {
    this.#running = true;
    this.#requestedMs = null;
    this.#startedMs = performance.now();
    const isOk = await this.#task();
    this.#failures = isOk ? 0 : this.#failures + 1;
    this.#running = false;
    if (this.#failures > 0)
      this.#schedule(Math.max(backoffMs(this.#failures), this.#remainingMs(this.#intervalMs)));
    else this.#schedule(this.#remainingMs(this.#requestedMs ?? this.#intervalMs));
  }
}
