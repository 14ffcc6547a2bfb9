import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { RequestHandler } from 'express';

const AUTH_CHALLENGES = ['Bearer', 'Basic realm="Transit Relay", charset="UTF-8"'];

/**
 * Lets in who has the token: programs as `Authorization: Bearer TOKEN`, browsers with the token as the password of
 * any user.
 */
export function requireToken(token: string): RequestHandler {
  const expected = sha256(token);
  return (request, response, next) => {
    const given = parseToken(request.headers.authorization ?? '');
    if (given !== null && timingSafeEqual(sha256(given), expected)) {
      next();
      return;
    }
    const problem = 'a token is needed: send SIDECAR_TOKEN as "Authorization: Bearer", or as the password';
    response.status(401).setHeader('www-authenticate', AUTH_CHALLENGES);
    response.json({ problem });
  };
}

/**
 * Without a token, keeps web pages from asking by way of their visitor's browser: a name that leads to this
 * machine only for the moment (DNS rebinding) has dots.
 */
export const requireLocalHostname: RequestHandler = (request, response, next) => {
  const name = (request.headers.host ?? '').replace(/:\d+$/u, '').replaceAll(/[[\]]/gu, '');
  if (isIP(name) !== 0 || !name.includes('.') || name.endsWith('.localhost')) {
    next();
    return;
  }
  const problem =
    'without SIDECAR_TOKEN this answers to addresses and to names without dots, like localhost; set SIDECAR_TOKEN to give it a domain name';
  response.status(403).json({ problem });
};

/**
 * Keeps other web pages from keeping this busy by way of their visitor's browser, which asks even where it does not
 * let them see the answer. They may link to it.
 */
export const rejectCrossSite: RequestHandler = (request, response, next) => {
  const { 'sec-fetch-site': site = 'none', 'sec-fetch-dest': destination } = request.headers;
  if (site === 'none' || site === 'same-origin' || destination === 'document') next();
  else response.status(403).json({ problem: 'another web page may link here, but not load from here' });
};

/** Keeps other web pages from having something done by way of their visitor's browser. */
export const requireSameOrigin: RequestHandler = (request, response, next) => {
  const site = request.headers['sec-fetch-site'];
  const origin = request.headers.origin ?? null;
  const isOwn =
    site === undefined
      ? origin === null || parseHost(origin) === request.headers.host
      : site === 'same-origin';
  if (isOwn) next();
  else response.status(403).json({ problem: 'another web page may not ask for this' });
};

function parseHost(origin: string): string {
  return URL.canParse(origin) ? new URL(origin).host : '';
}

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

/** Of one length, whatever the text's is. */
function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
