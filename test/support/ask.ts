import { request } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { buffer } from 'node:stream/consumers';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The raw body; compressed content stays compressed. */
  readonly body: Buffer;
}

export interface AskOptions {
  readonly method?: string;
  readonly headers?: OutgoingHttpHeaders;
}

/**
 * Sends a request over its own connection, with path and headers unchanged: `fetch` would normalise both.
 * Resolves when the response starts.
 */
export function begin(url: string, path: string, options: AskOptions = {}): Promise<IncomingMessage> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    request({ hostname, port, path, agent: false, ...options }, resolve)
      .on('error', reject)
      .end();
  });
}

/** The same, with the whole response. */
export async function ask(url: string, path: string, options: AskOptions = {}): Promise<Answer> {
  const response = await begin(url, path, options);
  return { status: response.statusCode ?? 0, headers: response.headers, body: await buffer(response) };
}

/** Throws if the body is not JSON. */
export function jsonOf({ body }: Answer): unknown {
  const value: unknown = JSON.parse(body.toString());
  return value;
}

/** The message of a response `{ problem: … }` with no other keys than `more`. */
export function problemOf(answer: Answer, more: readonly string[] = []): string {
  const value = jsonOf(answer);
  if (
    typeof value !== 'object' ||
    value === null ||
    !('problem' in value) ||
    typeof value.problem !== 'string'
  )
    throw new Error(`no problem in ${answer.body.toString()}`);
  const others = Object.keys(value).filter((key) => key !== 'problem');
  if (others.join() !== more.join()) throw new Error(`more than a problem: ${others.join()}`);
  return value.problem;
}
