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
  try {
    if (response.ok || accepts.includes(response.status)) return { kind: 'ok', value: await response.json() };
    if (response.status === UNAUTHORIZED) {
      return {
        kind: 'problem',
        reached: true,
        problem: 'The sidecar requires its token again: reload this page.',
      };
    }
    const answer: { readonly problem?: unknown } = await response.json();
    if (typeof answer.problem === 'string') {
      return { kind: 'problem', reached: true, problem: answer.problem };
    }
  } catch {
    // A response that is not JSON comes from a proxy. Its status is the best information.
  }
  return { kind: 'problem', reached: true, problem: `The sidecar answered with status ${response.status}.` };
}
