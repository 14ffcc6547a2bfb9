import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ask, problemOf } from '../../support/ask.ts';
import type { Answer } from '../../support/ask.ts';
import { scratch } from '../../support/scratch.ts';
import { startSidecar, sampleRecords } from '../../support/sidecar-fixture.ts';

const TOKEN = 'correct-horse:battery=staple';

/** All paths except `/healthz`, including missing ones. */
const GUARDED = [
  '/',
  '/assets/dashboard.css',
  '/live.json',
  '/live-history.json',
  '/snapshots',
  '/snapshots/latest.sqlite',
  '/usage.json',
  '/usage.csv',
  '/health/relay',
  '/health/transfer',
  '/health/snapshot',
  '/metrics',
  '/nothing',
  '/%zz',
  '/healthz/more',
  '/healthz%2f..%2flive.json',
  '/./healthz/../live.json',
];

function basic(credentials: string): string {
  return `Basic ${Buffer.from(credentials).toString('base64')}`;
}

const GOOD = [
  `Bearer ${TOKEN}`,
  `bearer  ${TOKEN}`,
  `BEARER ${TOKEN} `,
  basic(`:${TOKEN}`),
  basic(`anybody:${TOKEN}`),
  basic(`anybody:${TOKEN}`).replace('Basic', 'basic'),
];

const BAD = [
  '',
  'Bearer',
  'Bearer ',
  `Bearer ${TOKEN}x`,
  `Bearer ${TOKEN.slice(0, -1)}`,
  `Bearer ${TOKEN.toUpperCase()}`,
  `Bearer ${TOKEN} ${TOKEN}`,
  `Bearer${TOKEN}`,
  `Token ${TOKEN}`,
  TOKEN,
  'Basic',
  'Basic !!!!',
  basic(TOKEN.replaceAll(':', '')),
  basic(`${TOKEN}:`),
  basic(`:${TOKEN}\n`),
  basic(`:${TOKEN}:`),
  `Basic :${TOKEN}`,
  `Bearer ${'x'.repeat(8000)}`,
];

function authorized(authorization: string): { readonly headers: Record<string, string> } {
  return { headers: { authorization } };
}

function assertRejected(answer: Answer, what: string): void {
  assert.equal(answer.status, 401, what);
  const challenges = String(answer.headers['www-authenticate']);
  assert.match(challenges, /^Bearer\b/u);
  assert.match(challenges, /\bBasic realm="[^"]+", charset="UTF-8"$/u);
  assert.match(problemOf(answer), /^authentication required: send SIDECAR_TOKEN /u);
  assert.match(String(answer.headers['content-security-policy']), /^default-src 'none'/u);
  assert.equal(answer.headers['x-content-type-options'], 'nosniff');
  assert.equal(answer.headers['x-powered-by'], undefined);
  assert.equal(answer.headers['x-frame-options'], 'DENY');
}

describe('a sidecar with a token', () => {
  test('requires it everywhere except at /healthz', async (context) => {
    const { url, sidecar } = await startSidecar(context, sampleRecords(3), { SIDECAR_TOKEN: TOKEN });
    for (const path of GUARDED) {
      assertRejected(await ask(url, path), path);
      for (const method of ['HEAD', 'POST', 'OPTIONS', 'DELETE']) {
        assert.equal((await ask(url, path, { method })).status, 401, `${method} ${path}`);
      }
    }
    for (const authorization of BAD) {
      assertRejected(await ask(url, '/live.json', authorized(authorization)), authorization);
      assert.equal((await ask(url, '/healthz', authorized(authorization))).status, 200);
    }
    assertRejected(await ask(url, `/live.json?token=${TOKEN}&access_token=${TOKEN}`), 'in the query');
    assert.equal((await ask(url, '/healthz')).status, 200);

    for (const authorization of GOOD) {
      for (const path of [
        '/',
        '/live.json',
        '/snapshots',
        '/usage.csv',
        '/metrics',
        '/snapshots/latest.sqlite',
      ]) {
        const answer = await ask(url, path, authorized(authorization));
        assert.equal(answer.status, 200, `${authorization} ${path}`);
        assert.ok(!JSON.stringify(answer.headers).includes(TOKEN));
        assert.ok(!answer.body.includes(TOKEN));
      }
    }
    const post = { method: 'POST', ...authorized(`Bearer ${TOKEN}`) };
    assert.equal((await ask(url, '/snapshots', post)).status, 201);
    assert.equal((await ask(url, '/nothing', authorized(`Bearer ${TOKEN}`))).status, 404);

    await sidecar.stop();
    assert.ok(!sidecar.log.includes(TOKEN));
    assert.equal(sidecar.stderr, '');
  });

  test('can read it from a file', async (context) => {
    const file = join(await scratch(context), 'token');
    writeFileSync(file, `${TOKEN}\n`);
    const { url } = await startSidecar(context, null, { SIDECAR_TOKEN_FILE: file });
    assertRejected(await ask(url, '/live.json'), 'without');
    assert.equal((await ask(url, '/live.json', authorized(`Bearer ${TOKEN}`))).status, 200);
  });

  test('can have a domain name', async (context) => {
    const { url } = await startSidecar(context, null, { SIDECAR_TOKEN: TOKEN });
    const headers = { host: 'relay.example.org', authorization: `Bearer ${TOKEN}` };
    assert.equal((await ask(url, '/live.json', { headers })).status, 200);
  });
});

describe('a sidecar without a token', () => {
  test('accepts only local names', async (context) => {
    const { url } = await startSidecar(context, null);
    const statusFor = async (host: string, path = '/live.json'): Promise<number> =>
      (await ask(url, path, { headers: { host } })).status;
    const local = [
      'localhost',
      'localhost:4004',
      'LOCALHOST',
      'relay.localhost:80',
      '127.0.0.1',
      '127.0.0.1:4004',
      '192.0.2.7:4004',
      '[::1]',
      '[::1]:4004',
      '[2001:db8::1]:4004',
      'sidecar',
      'sidecar:4004',
      '',
    ];
    for (const host of local) {
      assert.equal(await statusFor(host), 200, host);
      assert.equal(await statusFor(host, '/metrics'), 200, host);
    }
    const foreign = [
      'evil.example',
      'evil.example:4004',
      'EVIL.EXAMPLE',
      'localhost.evil.example',
      '127.0.0.1.evil.example',
      'evil.example.',
      'evil.localhost.example:80',
      '[::1].evil.example',
      'evil.example:80:80',
    ];
    for (const host of foreign) {
      const answer = await ask(url, '/live.json', { headers: { host } });
      assert.equal(answer.status, 403, host);
      assert.match(problemOf(answer), /set SIDECAR_TOKEN to use a domain name$/u);
      assert.equal(answer.headers['x-content-type-options'], 'nosniff');
      assert.equal(await statusFor(host, '/nothing'), 403);
      assert.equal(await statusFor(host, '/metrics'), 403);
      assert.equal(await statusFor(host, '/healthz'), 200);
    }
  });

  test('has no CORS headers, and rejects loads by other pages', async (context) => {
    const { url } = await startSidecar(context, null);
    const statusFor = async (headers: Readonly<Record<string, string>>): Promise<number> =>
      (await ask(url, '/usage.json', { headers })).status;
    const answer = await ask(url, '/healthz', { headers: { origin: 'http://evil.example' } });
    assert.equal(answer.headers['access-control-allow-origin'], undefined);
    assert.equal(answer.headers['cross-origin-resource-policy'], 'same-origin');
    for (const site of ['cross-site', 'same-site']) {
      for (const destination of ['image', 'iframe', 'script', 'empty']) {
        const headers = { 'sec-fetch-site': site, 'sec-fetch-dest': destination };
        assert.equal(await statusFor(headers), 403, `${site} ${destination}`);
      }
      // A link on another site.
      assert.equal(await statusFor({ 'sec-fetch-site': site, 'sec-fetch-dest': 'document' }), 503);
    }
    // The page itself, a typed URL, and a program.
    assert.equal(await statusFor({ 'sec-fetch-site': 'same-origin', 'sec-fetch-dest': 'empty' }), 503);
    assert.equal(await statusFor({ 'sec-fetch-site': 'none', 'sec-fetch-dest': 'document' }), 503);
    assert.equal(await statusFor({}), 503);
  });
});
