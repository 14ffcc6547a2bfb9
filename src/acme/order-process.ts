import { once } from 'node:events';
import { Client, axios, crypto } from 'acme-client';
import type { Authorization } from 'acme-client';
import type { Challenge, OrderFailure, OrderReport, OrderTask } from './order-messages.ts';

/**
 * Entry of the process that orders one certificate. It exists for the seconds of an order, because
 * `acme-client` and its dependencies need more memory than an idle relay.
 */

/** Time for one request to the CA, in milliseconds. */
const REQUEST_TIMEOUT_MS = 30_000;

/** Larger than any answer of a CA, in bytes. */
const MAX_RESPONSE_BYTES = 2 ** 20;

/** Polling of the CA's checks: at most about two minutes for each domain. */
const POLLING = { backoffAttempts: 20, backoffMin: 500, backoffMax: 8000 } as const;

/** Maximum length of a CA's text in the log. */
const MAX_DETAIL_LENGTH = 400;

const PROBLEM_PREFIX = 'urn:ietf:params:acme:error:';

/** The last response was an error, or the last request got none. */
let lastFailure: OrderFailure | null = null;

// Replaces the HTTP client of `acme-client`, which follows redirects, obeys proxy variables, retries for
// minutes, and does not bound responses.
axios.defaults.adapter = async (config) => {
  const url = new URL(config.url ?? '');
  if (url.protocol !== 'https:') throw new Error(`the CA names a URL that is not https: ${url.origin}`);
  const { status, headers, text } = await request(url, {
    method: (config.method ?? 'get').toUpperCase(),
    headers: Object.fromEntries(
      Object.entries(config.headers.toJSON()).map(([name, value]) => [name, String(value)]),
    ),
    ...(typeof config.data === 'string' ? { body: config.data } : {}),
  });
  lastFailure = findFailure(status, headers, text);
  return { status, statusText: '', headers: Object.fromEntries(headers), data: text, config };
};

async function request(
  url: URL,
  options: RequestInit,
): Promise<{ readonly status: number; readonly headers: Headers; readonly text: string }> {
  try {
    const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const response = await fetch(url, { ...options, redirect: 'manual', signal });
    return { status: response.status, headers: response.headers, text: await readText(response) };
  } catch (error) {
    lastFailure = { problem: null, detail: `${url.host}: ${codeOf(error)}`, retryAtMs: null };
    throw error;
  }
}

async function readText({ body }: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of body ?? []) {
    length += part.length;
    if (length > MAX_RESPONSE_BYTES) throw new Error('response too large');
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

/** The code of an error, or of the one that caused it. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error';
  if ('code' in error && typeof error.code === 'string') return error.code;
  return error.cause === undefined ? error.message : codeOf(error.cause);
}

/** The problem document in a response (RFC 8555, section 6.7), also that of a failed check of a domain. */
function findFailure(status: number, headers: Headers, text: string): OrderFailure | null {
  const body = parseObject(text);
  const problem = status >= 300 ? body : parseObject(body?.['error']);
  if (status < 300 && (body?.['status'] !== 'invalid' || problem === null)) return null;
  const { type, detail } = problem ?? {};
  return {
    problem:
      typeof type === 'string' && type.startsWith(PROBLEM_PREFIX) ? type.slice(PROBLEM_PREFIX.length) : null,
    detail: toDetail(typeof detail === 'string' ? detail : `HTTP status ${status}`),
    retryAtMs: parseRetryAfter(headers.get('retry-after')),
  };
}

function parseObject(value: unknown): Readonly<Record<string, unknown>> | null {
  try {
    const parsed: unknown = typeof value === 'string' ? JSON.parse(value) : value;
    return typeof parsed === 'object' && parsed !== null ? { ...parsed } : null;
  } catch {
    return null;
  }
}

function toDetail(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]+/gu, ' ').slice(0, MAX_DETAIL_LENGTH);
}

/** Seconds, or a date (RFC 9110, section 10.2.3). */
function parseRetryAfter(value: string | null): number | null {
  if (value === null) return null;
  const atMs = /^\d{1,9}$/u.test(value) ? Date.now() + Number(value) * 1000 : Date.parse(value);
  return Number.isNaN(atMs) ? null : atMs;
}

function report(message: OrderReport): void {
  // A dead parent is not an error: 'disconnect' follows.
  process.send?.(message, () => undefined);
}

async function present(challenge: Challenge): Promise<void> {
  const presented = once(process, 'message');
  report({ kind: 'challenge', challenge });
  await presented;
}

async function order(task: OrderTask): Promise<OrderReport> {
  const { directoryUrl, email, domains, accountKey } = task;
  const client = new Client({ directoryUrl, accountKey, ...POLLING });
  await openAccount(client, email === null ? {} : { contact: [`mailto:${email}`] });
  const identifiers = domains.map((value) => ({ type: 'dns', value }));
  const created = await client.createOrder({ identifiers });
  for (const authorization of await client.getAuthorizations(created))
    if (authorization.status === 'pending') await authorize(client, task, authorization);
  const key = await crypto.createPrivateEcdsaKey();
  const [, csr] = await crypto.createCsr({ altNames: [...domains] }, key);
  const chain = await client.getCertificate(await client.finalizeOrder(created, csr));
  return { kind: 'issued', issued: { chain, key: key.toString() } };
}

/** Finds the account of the key at the CA, or creates it. */
async function openAccount(client: Client, contact: { readonly contact?: string[] }): Promise<void> {
  try {
    await client.createAccount({ onlyReturnExisting: true });
    if (contact.contact !== undefined) await client.updateAccount(contact);
  } catch (error) {
    if (lastFailure?.problem !== 'accountDoesNotExist') throw error;
    await client.createAccount({ termsOfServiceAgreed: true, ...contact });
  }
}

/** Proves to the CA that this relay controls a domain. */
async function authorize(client: Client, task: OrderTask, authorization: Authorization): Promise<void> {
  const { challengeType, domains } = task;
  const domain = authorization.identifier.value.toLowerCase();
  const challenge = authorization.challenges.find(({ type }) => type === challengeType);
  if (!domains.includes(domain)) throw new Error('the CA asks for a domain that was not ordered');
  if (challenge === undefined) throw new Error(`the CA does not support ${challengeType}`);
  if (!/^[\w-]{1,256}$/u.test(challenge.token)) throw new Error('the CA uses an invalid token');
  const answer = await client.getChallengeKeyAuthorization(challenge);
  if (challengeType === 'http-01') {
    await present({ type: challengeType, token: challenge.token, answer });
  } else {
    const ownKey = await crypto.createPrivateEcdsaKey();
    const [key, certificate] = await crypto.createAlpnCertificate(authorization, answer, ownKey);
    await present({
      type: challengeType,
      domain,
      key: key.toString(),
      certificate: certificate.toString(),
    });
  }
  await client.completeChallenge(challenge);
  await client.waitForValidStatus(challenge);
}

/** Signals to the process group are for the relay, which decides. */
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => undefined);
process.on('disconnect', () => process.exit());
process.once('message', (task: OrderTask) => {
  void order(task)
    .catch((error: unknown): OrderReport => {
      const detail = toDetail(error instanceof Error ? error.message : String(error));
      return { kind: 'failed', failure: lastFailure ?? { problem: null, detail, retryAtMs: null } };
    })
    .then((result) => process.send?.(result, () => process.disconnect()));
});
