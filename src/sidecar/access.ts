import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { RequestHandler } from 'express';

const AUTH_CHALLENGES = ['Bearer', 'Basic realm="Transit Relay", charset="UTF-8"'];

/**
 * Accepts requests with the token: from programs as `Authorization: Bearer TOKEN`, from browsers as the
 * password with any user name.
 */
export function requireToken(token: string): RequestHandler {
  const expected = sha256(token);
  return (request, response, next) => {
    const given = parseToken(request.headers.authorization ?? '');
    if (given !== null && timingSafeEqual(sha256(given), expected)) {
      next();
      return;
    }
    const problem =
      'authentication required: send SIDECAR_TOKEN as "Authorization: Bearer", or as the password';
    response.status(401).setHeader('www-authenticate', AUTH_CHALLENGES);
    response.json({ problem });
  };
}

/**
 * Protects a sidecar without a token against DNS rebinding: a web page that temporarily points its own name
 * to this machine uses a name with dots.
 */
export const requireLocalHostname: RequestHandler = (request, response, next) => {
  const name = (request.headers.host ?? '').replace(/:\d+$/u, '').replaceAll(/[[\]]/gu, '');
  if (isIP(name) !== 0 || !name.includes('.') || name.endsWith('.localhost')) {
    next();
    return;
  }
  const problem =
    'without SIDECAR_TOKEN only addresses and names without dots, like localhost, are accepted; set SIDECAR_TOKEN to use a domain name';
  response.status(403).json({ problem });
};

/**
 * Rejects requests that other web pages make through a visitor's browser. The browser sends them even if the
 * page may not read the response, which would keep the sidecar busy. Links are allowed.
 */
export const rejectCrossSite: RequestHandler = (request, response, next) => {
  const { 'sec-fetch-site': site = 'none', 'sec-fetch-dest': destination } = request.headers;
  if (site === 'none' || site === 'same-origin' || destination === 'document') next();
  else response.status(403).json({ problem: 'other web pages may link here, but not load from here' });
};

/** Rejects actions that other web pages request through a visitor's browser. */
export const requireSameOrigin: RequestHandler = (request, response, next) => {
  const site = request.headers['sec-fetch-site'];
  const origin = request.headers.origin ?? null;
  const isOwn =
    site === undefined
      ? origin === null || (URL.parse(origin)?.host ?? '') === request.headers.host
      : site === 'same-origin';
  if (isOwn) next();
  else response.status(403).json({ problem: 'other web pages may not request this' });
};

function parseToken(header: string): string | null {
  const [, scheme = '', value = ''] = /^(\w+) +(\S+)\s*$/u.exec(header) ?? [];
  switch (scheme.toLowerCase()) {
    case 'bearer':
      return value;
    case 'basic': {
      const [, password = null] = /^[^:]*:(.*)$/su.exec(Buffer.from(value, 'base64').toString('utf8')) ?? [];
      return password;
    }
    default:
      return null;
  }
}

/** Hashes of equal length can be compared in constant time. */
function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
