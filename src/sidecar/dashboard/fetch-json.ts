/** An answer, or why there is none in a sentence. `reached` is false when nobody answered at all. */
export type FetchResult<T> =
  | { readonly kind: 'ok'; readonly value: T }
  | { readonly kind: 'problem'; readonly reached: boolean; readonly problem: string };

/** Longer than the server takes for the longest of its answers but one that hangs, in milliseconds. */
const TIMEOUT_MS = 60_000;

const UNAUTHORIZED = 401;

/**
 * Asks the sidecar, relative to the page's own address. Never throws.
 *
 * @param timeoutMs after which there is no answer
 * @param accepts statuses that carry an answer of type T, besides those that say it went well
 */
export async function fetchJson<T>(
  address: string,
  { method = 'GET', timeoutMs = TIMEOUT_MS, accepts = [] as readonly number[] } = {},
): Promise<FetchResult<T>> {
  let response: Response;
  try {
    response = await fetch(address, { method, cache: 'no-store', signal: AbortSignal.timeout(timeoutMs) });
  } catch (error) {
    const late = error instanceof DOMException && error.name === 'TimeoutError';
    const problem = late
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
        problem: 'The sidecar asks for its token again: reload this page.',
      };
    }
    const answer: { readonly problem?: unknown } = await response.json();
    if (typeof answer.problem === 'string') {
      return { kind: 'problem', reached: true, problem: answer.problem };
    }
  } catch {
    // What is no JSON comes from something between this page and the sidecar; the status says the most.
  }
  return { kind: 'problem', reached: true, problem: `The sidecar answered with status ${response.status}.` };
}
