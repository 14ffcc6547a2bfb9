import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { ChallengeType, OrderFailure } from '../../../src/acme/order-messages.ts';
import { OrderError, runOrder } from '../../../src/acme/order-runner.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { listening } from '../../support/listening.ts';
import { scratch, until } from '../../support/scratch.ts';

const identity = makeIdentity('localhost');
const accountKey = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  .privateKey.export({ type: 'pkcs8', format: 'pem' })
  .toString();

type Answer = (request: IncomingMessage, response: ServerResponse, origin: string) => void;

/** Starts a certificate authority that answers by path. Returns the URL of its directory. */
async function authority(context: TestContext, answers: Readonly<Record<string, Answer>>): Promise<string> {
  const path = join(await scratch(context), 'cert.pem');
  writeFileSync(path, identity.certificate);
  // The process of the order inherits it.
  process.env['NODE_EXTRA_CA_CERTS'] = path;
  const server = createServer({ key: identity.key, cert: identity.certificate }, (request, response) => {
    response.setHeader('replay-nonce', 'bm9uY2U');
    const answer = answers[request.url ?? ''];
    if (answer === undefined) response.end();
    else answer(request, response, `https://${request.headers.host}`);
  });
  return `https://localhost:${await listening(context, server)}/dir`;
}

const directory: Answer = (_request, response, origin) => {
  const resources = ['newNonce', 'newAccount', 'newOrder'].map((name) => [name, `${origin}/${name}`]);
  response.end(JSON.stringify(Object.fromEntries(resources)));
};

/** An answer with a problem document. */
function problem(status: number, type: string, detail: string, headers: Record<string, string> = {}): Answer {
  return (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/problem+json', ...headers });
    response.end(JSON.stringify({ type: `urn:ietf:params:acme:error:${type}`, detail }));
  };
}

function order(directoryUrl: string, signal = new AbortController().signal): Promise<unknown> {
  const challengeType: ChallengeType = 'tls-alpn-01';
  const task = { directoryUrl, email: null, domains: ['relay.example.org'], accountKey, challengeType };
  return runOrder(task, () => undefined, signal);
}

async function failureOf(directoryUrl: string, signal?: AbortSignal): Promise<OrderFailure> {
  let failure: OrderFailure | null = null;
  await assert.rejects(order(directoryUrl, signal), (error) => {
    assert.ok(error instanceof OrderError, String(error));
    failure = error.failure;
    return true;
  });
  assert.ok(failure !== null);
  return failure;
}

describe('an order', () => {
  test('fails with the problem of the certificate authority and its Retry-After', async (context) => {
    const limited = problem(429, 'rateLimited', `too many\n certificates${'.'.repeat(1000)}`, {
      'retry-after': '3600',
    });
    const url = await authority(context, { '/dir': directory, '/newAccount': limited });
    const startMs = Date.now();
    const failure = await failureOf(url);
    assert.equal(failure.problem, 'rateLimited');
    assert.match(failure.detail, /^too many {2}certificates\.{100}/u);
    assert.equal(failure.detail.length, 400);
    const retryMs = (failure.retryAtMs ?? 0) - startMs;
    assert.ok(retryMs >= 3_600_000 && retryMs < 3_700_000, `${retryMs} ms`);
  });

  test('follows no redirect', async (context) => {
    let visits = 0;
    const target = createHttpServer((_request, response) => {
      visits += 1;
      response.end();
    });
    const location = `http://127.0.0.1:${await listening(context, target)}/`;
    const url = await authority(context, {
      '/dir': (_request, response) => response.writeHead(302, { location }).end(),
    });
    assert.match((await failureOf(url)).detail, /HTTP status 302/u);
    assert.equal(visits, 0);
  });

  test('uses HTTPS only, whatever the directory says', async (context) => {
    const url = await authority(context, {
      '/dir': (_request, response) =>
        response.end(JSON.stringify({ newNonce: 'http://127.0.0.1:1/', newAccount: 'http://127.0.0.1:1/' })),
    });
    assert.match((await failureOf(url)).detail, /not https: http:\/\/127\.0\.0\.1:1$/u);
  });

  test('does not read endless answers', async (context) => {
    let sentBytes = 0;
    const url = await authority(context, {
      '/dir': (_request, response) => {
        const send = (): void => {
          sentBytes += 65_536;
          if (!response.destroyed) response.write(Buffer.alloc(65_536, 0x20), send);
        };
        send();
      },
    });
    assert.match((await failureOf(url)).detail, /response too large/u);
    assert.ok(sentBytes < 2 ** 26, `${sentBytes} bytes`);
  });

  test('fails if another program answers', async (context) => {
    const url = await authority(context, { '/dir': (_request, response) => response.end('<html>') });
    assert.equal((await failureOf(url)).problem, null);
  });

  test('fails if the certificate of the certificate authority is not trusted', async (context) => {
    delete process.env['NODE_EXTRA_CA_CERTS'];
    const other = makeIdentity('localhost');
    const server = createServer({ key: other.key, cert: other.certificate });
    const failure = await failureOf(`https://localhost:${await listening(context, server)}/dir`);
    assert.equal(failure.problem, null);
    assert.match(failure.detail, /^localhost:\d+: (?:DEPTH_ZERO_SELF_SIGNED_CERT|CERT_SIGNATURE_FAILURE)$/u);
  });

  test('ends at once when it is aborted', async (context) => {
    let isAsked = false;
    const url = await authority(context, {
      '/dir': () => {
        isAsked = true;
      },
    });
    const abort = new AbortController();
    const failing = failureOf(url, abort.signal);
    await until(() => isAsked);
    abort.abort();
    assert.match((await failing).detail, /ended with SIGKILL/u);
  });
});
