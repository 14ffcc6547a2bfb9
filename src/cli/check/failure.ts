import type { IncomingMessage } from 'node:http';
import { isIPv4 } from 'node:net';
import { errorCode } from '../../process/errors.ts';
import { formatTarget, isWebSocket, usesTls } from './target.ts';
import type { Target } from './target.ts';

/** The kinds of failures, for programs. */
export type FailureCode =
  | 'name_not_found'
  | 'unreachable'
  | 'refused'
  | 'timeout'
  | 'certificate'
  | 'tls'
  | 'http'
  | 'mailbox'
  | 'closed'
  | 'not_a_relay'
  | 'not_paired'
  | 'bad_handshake'
  | 'impatient'
  | 'busy'
  | 'over_quota'
  | 'shutting_down'
  | 'corrupted'
  | 'interrupted';

/** Failures after which the port may speak another protocol. */
const WRONG_PROTOCOL: ReadonlySet<FailureCode> = new Set([
  'timeout',
  'tls',
  'http',
  'closed',
  'not_a_relay',
  'not_paired',
]);

/** Why a test failed: what happened, and what the operator can do. */
export class TestFailure extends Error {
  readonly code: FailureCode;

  constructor(code: FailureCode, message: string) {
    super(message);
    this.code = code;
  }

  get isWrongProtocol(): boolean {
    return WRONG_PROTOCOL.has(this.code);
  }
}

/** What a client was doing when something failed, or took too long. */
export type Stage = 'name' | 'connect' | 'tls' | 'upgrade';

const LATE: Readonly<Record<Stage, (target: Target) => TestFailure>> = {
  name: ({ host }) => new TestFailure('name_not_found', `the name server did not answer about ${host}`),
  connect: () =>
    new TestFailure(
      'unreachable',
      'no answer to the connection request; a firewall drops it, or the address is wrong',
    ),
  tls: () => new TestFailure('timeout', 'no answer to the TLS handshake; the port may be one without TLS'),
  upgrade: () =>
    new TestFailure('timeout', 'no answer to the WebSocket request; the port may not be one for HTTP'),
};

/** The failure of a client that is not connected in time. */
export function lateFailure(stage: Stage, target: Target): TestFailure {
  return LATE[stage](target);
}

/** The failure to which an error led before a client was connected. */
export function connectFailure(error: unknown, stage: Stage, target: Target): TestFailure {
  const code = errorCode(error);
  if (stage === 'tls') return tlsFailure(code);
  if (stage === 'upgrade') return upgradeFailure(code);
  if (code === 'ENOTFOUND' || code === 'ENODATA' || code === 'EAI_AGAIN') {
    const why = code === 'EAI_AGAIN' ? 'the name server did not answer' : 'the name does not exist';
    return new TestFailure('name_not_found', `${why}; check the name ${target.host} and its DNS records`);
  }
  if (code === 'ECONNREFUSED') {
    const inContainer = isLoopback(target.host)
      ? `; in a container, ${target.host} is the container itself`
      : '';
    return new TestFailure(
      'refused',
      `connection refused; start the relay, publish its port, or check the port number ${target.port}${inContainer}`,
    );
  }
  if (code === 'ETIMEDOUT') return lateFailure('connect', target);
  return new TestFailure('unreachable', `no connection (${code}); check the address and the network`);
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

function tlsFailure(code: string): TestFailure {
  if (code === 'ECONNRESET')
    return new TestFailure('closed', 'the server closed the connection instead of a TLS handshake');
  // OpenSSL names bytes that are not TLS by what it expected.
  const isPlain = /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|EPROTO/u.test(code);
  return isPlain
    ? new TestFailure('tls', 'the port does not speak TLS')
    : new TestFailure('tls', `the TLS handshake failed (${code}); the relay needs TLS 1.2 or later`);
}

function upgradeFailure(code: string): TestFailure {
  if (code.startsWith('HPE_')) return new TestFailure('not_a_relay', 'the server does not speak HTTP');
  return new TestFailure('closed', `the server closed the connection instead of a WebSocket (${code})`);
}

/** The failure of a WebSocket upgrade that got an ordinary HTTP response. */
export function responseFailure({ statusCode = 0, headers }: IncomingMessage): TestFailure {
  const status = `HTTP status ${statusCode} instead of a WebSocket`;
  const { location } = headers;
  if (location !== undefined)
    return new TestFailure('http', `${status}; the server redirects to ${printable(location)}`);
  if (statusCode >= 500)
    return new TestFailure('http', `${status}; the proxy in front does not reach the relay`);
  if (statusCode === 404) return new TestFailure('http', `${status}; the server has no relay at this path`);
  return new TestFailure(
    'http',
    `${status}; it is another HTTP server, or a proxy that does not forward WebSocket upgrades`,
  );
}

const REJECTIONS: ReadonlyMap<string, TestFailure> = new Map(
  (
    [
      [
        'busy',
        'busy',
        'the relay is full (RELAY_MAX_CONNECTIONS, RELAY_MAX_WAITING), or it limits connections per address',
      ],
      ['over quota', 'over_quota', 'the quota of the relay is used up (RELAY_QUOTA)'],
      ['shutting down', 'shutting_down', 'the relay is stopping; test again when it has restarted'],
      ['impatient', 'impatient', 'something between here and the relay adds bytes'],
      [
        'bad handshake',
        'bad_handshake',
        'something between here and the relay adds bytes, like a PROXY header (RELAY_TRUSTED_PROXIES)',
      ],
    ] as const
  ).map(([reply, code, advice]) => [reply, new TestFailure(code, `the answer is "${reply}": ${advice}`)]),
);

/**
 * The failure of a client that got something else than `ok`.
 *
 * @param received everything until the first newline, or until the connection was closed
 * @param token of this client, which must not be shown
 */
export function replyFailure(received: Buffer, token: string): TestFailure {
  const text = received.toString('latin1');
  const rejection = REJECTIONS.get(text.replace(/\n[^]*$/u, ''));
  if (rejection !== undefined) return rejection;
  if (text === '')
    return new TestFailure(
      'closed',
      'the server closed the connection without an answer; it is not a transit relay, or a proxy that does not reach it',
    );
  if (text.startsWith('HTTP/1'))
    return new TestFailure('http', `the answer is ${JSON.stringify(printable(text))}; it is an HTTP server`);
  if (text.startsWith('{') && text.includes('"welcome"')) return mailboxFailure();
  // An alert of TLS 1.0 or later.
  if (text.startsWith('\x15\x03')) return new TestFailure('tls', 'the port speaks only TLS');
  if (text.includes(token))
    return new TestFailure('not_a_relay', 'the server sends back what it gets; it is not a transit relay');
  return new TestFailure(
    'not_a_relay',
    `the answer is ${JSON.stringify(printable(text))}; it is not a transit relay`,
  );
}

export function mailboxFailure(): TestFailure {
  return new TestFailure(
    'mailbox',
    'it is a mailbox server, the other server of magic-wormhole; transit relays have a port of their own, usually 4001',
  );
}

/** The failure if a transit relay answers at the port, but to clients of another kind. */
export function otherSchemeFailure(failure: TestFailure, found: Target): TestFailure {
  const how = [isWebSocket(found.scheme) ? 'WebSocket' : 'raw', usesTls(found.scheme) ? 'with' : 'without'];
  return new TestFailure(
    failure.code,
    `${failure.message.replace(/;[^;]*$/u, '')}; a transit relay for ${how.join(' clients ')} TLS is there: use ${formatTarget(found)}`,
  );
}

const MAX_PRINTED = 60;

/** Text of a server without anything that could control a terminal. The first line, shortened. */
export function printable(text: string): string {
  const [line = ''] = text.slice(0, 2 * MAX_PRINTED).split(/[\r\n]/u);
  const safe = line.replaceAll(/[^\x20-\x7e]/gu, '.');
  return safe.length > MAX_PRINTED ? `${safe.slice(0, MAX_PRINTED)}…` : safe;
}
