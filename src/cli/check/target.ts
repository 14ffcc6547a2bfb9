import { isIP, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';
import { UsageError } from '../arguments.ts';

/** How clients reach a relay: raw or WebSocket, with or without TLS. */
export type Scheme = 'tcp' | 'ssl' | 'ws' | 'wss';

/** An endpoint as a client sees it. */
export interface Target {
  readonly scheme: Scheme;
  /** Host name, or IP address without brackets. */
  readonly host: string;
  readonly port: number;
  /** Path and query of a WebSocket URL; the others ignore it. */
  readonly path: string;
}

/** Accepted endpoints. */
export const TARGET_GRAMMAR =
  'tcp:HOST:PORT, HOST:PORT, ssl:HOST:PORT, ws://HOST[:PORT][/PATH] or wss://HOST[:PORT][/PATH]';

const DEFAULT_PORTS: Readonly<Record<Scheme, number>> = { tcp: 4001, ssl: 443, ws: 80, wss: 443 };

/** Words in front of a colon that are not host names. */
const SCHEMES = /^(?:tcp|ssl|tls|wss?|https?|unix|systemd)$/iu;

/**
 * Parses an endpoint of a client.
 *
 * @throws UsageError with the corrected value, where there is one
 */
export function parseTarget(text: string): Target {
  const [, web] = /^(wss?|https?):\/\//iu.exec(text) ?? [];
  return web === undefined ? parseRaw(text) : parseUrl(text, web.toLowerCase());
}

/** Formats a target as in an argument; the inverse of `parseTarget`. */
export function formatTarget({ scheme, host, port, path }: Target): string {
  const name = isIPv6(host) ? `[${host}]` : host;
  if (!isWebSocket(scheme)) return `${scheme}:${name}:${port}`;
  return `${scheme}://${name}${port === DEFAULT_PORTS[scheme] ? '' : `:${port}`}${path}`;
}

export function isWebSocket(scheme: Scheme): boolean {
  return scheme === 'ws' || scheme === 'wss';
}

export function usesTls(scheme: Scheme): boolean {
  return scheme === 'ssl' || scheme === 'wss';
}

function parseUrl(text: string, scheme: string): Target {
  const url = URL.parse(text);
  if (url === null) throw invalid(text, 'it is not a URL');
  // It is not shown: a password would get into a log.
  if (url.username !== '' || url.password !== '')
    throw new UsageError('a URL with a user name or password is not an endpoint of a relay');
  if (scheme.startsWith('http')) throw invalid(text, null, text.replace(/^http/iu, 'ws'));
  const secure = scheme === 'wss' ? 'wss' : 'ws';
  return {
    scheme: secure,
    host: url.hostname.replaceAll(/^\[|\]$/gu, ''),
    port: url.port === '' ? DEFAULT_PORTS[secure] : Number(url.port),
    path: `${url.pathname}${url.search}`,
  };
}

function parseRaw(text: string): Target {
  const [, kind = 'tcp', name = '', digits] =
    /^(?:(tcp|ssl):(?:\/\/)?)?(\[[^[\]]*\]|[^:[\]/\s]+)(?::(\d{1,5}))?\/?$/iu.exec(text) ?? [];
  const scheme = kind.toLowerCase() === 'ssl' ? 'ssl' : 'tcp';
  const literal = name.replaceAll(/^\[|\]$/gu, '');
  if (isIPv6(text)) throw invalid(text, 'it has no port', `tcp:[${text}]:4001`);
  if (name === '') throw invalid(text, null);
  const isNumber = /^\d+$/u.test(name);
  if (isNumber || SCHEMES.test(name))
    throw invalid(text, 'it has no host', `${scheme}:HOST:${digits ?? name}`);
  // domainToASCII rewrites numbers to IPv4 addresses, and returns an empty string for invalid names.
  const host = name.startsWith('[')
    ? isIPv6(literal)
      ? literal
      : ''
    : isIP(name) === 4
      ? name
      : domainToASCII(name);
  if (host === '') throw invalid(text, 'its host is not a name or an IP address');
  if (digits === undefined)
    throw invalid(text, 'it has no port', `${scheme}:${name}:${DEFAULT_PORTS[scheme]}`);
  const port = Number(digits);
  if (port === 0 || port > 65_535) throw invalid(text, 'its port is not between 1 and 65535');
  return { scheme, host, port, path: '/' };
}

function invalid(text: string, problem: string | null, suggestion: string | null = null): UsageError {
  const reason = problem === null ? '' : `: ${problem}`;
  const instead = suggestion === null ? `use ${TARGET_GRAMMAR}` : `use ${suggestion}`;
  return new UsageError(`endpoint ${JSON.stringify(text)} can't be used${reason}; ${instead}`);
}
