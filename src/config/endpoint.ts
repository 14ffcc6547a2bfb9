import { parseAddress } from '../protocol/ip-address.ts';
import { correctEndpoint } from './endpoint-corrections.ts';

/** The PEM files of a TLS listener. `chainPath` has the intermediate certificates. */
export interface TlsFiles {
  readonly keyPath: string;
  readonly certificatePath: string;
  readonly chainPath: string | null;
}

/** `interface` is an IP address; null means all addresses of the host. */
export interface TcpEndpoint {
  readonly kind: 'tcp';
  readonly port: number;
  readonly interface: string | null;
  readonly backlog: number | null;
  /** `acme`: the certificate that the relay gets by ACME. Null: no TLS. */
  readonly tls: TlsFiles | 'acme' | null;
}

export interface UnixEndpoint {
  readonly kind: 'unix';
  readonly path: string;
  readonly mode: number | null;
  readonly backlog: number | null;
}

/** A socket that systemd binds and passes to the relay. */
export interface SystemdEndpoint {
  readonly kind: 'systemd';
  readonly domain: 'INET' | 'INET6' | 'UNIX';
  /** Index among the passed sockets, from 0, or name. */
  readonly socket: number | string;
  /** `acme`: the certificate that the relay gets by ACME. Null: no TLS. */
  readonly tls: TlsFiles | 'acme' | null;
}

/** An address that the program binds itself, so that other programs can connect to it. */
export type BoundEndpoint = TcpEndpoint | UnixEndpoint;

/** Where to listen. */
export type Endpoint = BoundEndpoint | SystemdEndpoint;

/** An invalid endpoint. The message is a sentence for the operator. */
export class EndpointError extends Error {}

/** Accepted endpoints. */
export const ENDPOINT_GRAMMAR =
  'endpoints like tcp:4001, 127.0.0.1:4001, [::1]:4001, ' +
  'ssl:443:privateKey=/etc/relay/key.pem:certKey=/etc/relay/fullchain.pem, ' +
  'ssl:443, unix:/run/relay.sock:mode=660, systemd:domain=INET:index=0, separated by blanks or commas';

const MAX_PORT = 65_535;
const MAX_BACKLOG = 2 ** 31 - 1;

/** Descriptors are ints, and the first one from systemd is 3 (sd_listen_fds(3)). */
const MAX_INDEX = 2 ** 31 - 1 - 3;

/** Values of Twisted's sslmethod that mean the best version available, or TLS 1.2 and later. */
const ACCEPTED_SSL_METHODS: ReadonlySet<string> = new Set(['TLS_METHOD', 'SSLv23_METHOD', 'TLSv1_2_METHOD']);

/**
 * Parses endpoints separated by blanks or commas. Inside an endpoint, these are written as `\ ` and `\,`.
 *
 * @throws EndpointError for the first invalid endpoint
 */
export function parseEndpoints(text: string): Endpoint[] {
  return (text.match(/(?:\\.|[^\s,\\])+|\\$/gsu) ?? []).map(parseEndpoint);
}

/**
 * Parses one endpoint: a Twisted description string (`kind:value:name=value`, with a backslash before a
 * literal `:`, `=` or `\`), a port number, or `HOST:PORT` with an IP address as host or without one.
 *
 * @throws EndpointError, with the corrected endpoint if it is clear what was meant
 */
export function parseEndpoint(text: string): Endpoint {
  try {
    return parseExactly(text);
  } catch (error) {
    const corrected = error instanceof EndpointError ? correctEndpoint(text) : null;
    if (!(error instanceof EndpointError) || corrected === null || !isEndpoint(corrected)) throw error;
    throw new EndpointError(`${error.message}; write ${corrected}`, { cause: error });
  }
}

function isEndpoint(text: string): boolean {
  try {
    parseExactly(text);
    return true;
  } catch (error) {
    if (error instanceof EndpointError) return false;
    throw error;
  }
}

function parseExactly(text: string): Endpoint {
  const hostPort = parseAddressAndPort(text);
  if (hostPort !== null) return hostPort;
  const fields = new Fields(/^\d+$/u.test(text) ? `tcp:${text}` : text);
  if (fields.kind === 'tcp' || fields.kind === 'ssl') return parseTcp(fields);
  if (fields.kind === 'unix') return parseUnix(fields);
  if (fields.kind === 'systemd') return parseSystemd(fields);
  const named = parseHostPort(text);
  if (named !== null)
    throw new EndpointError(
      `"${text}" has a name, which may change; use an IP address of this host, or tcp:${named.port} for all of them`,
    );
  throw new EndpointError(`"${text}" does not begin with tcp:, ssl:, unix: or systemd:`);
}

/** Parses `127.0.0.1:4001`, `[::1]:4001` and `:4001`. Returns null if there is no address or no port. */
function parseAddressAndPort(text: string): TcpEndpoint | null {
  const [, bracketed, plain = '', digits] = /^(?:\[([^\]]+)\]|([\d.]*)):(\d+)$/u.exec(text) ?? [];
  const address = bracketed ?? plain;
  const isAddress = parseAddress(address) !== null && address.includes(':') === (bracketed !== undefined);
  if (digits === undefined || (address !== '' && !isAddress)) return null;
  const bound = address === '' ? null : address;
  return { kind: 'tcp', port: toPort(digits), interface: bound, backlog: null, tls: null };
}

/** The socket family of its connections. */
export function socketFamily(endpoint: Endpoint): BoundEndpoint['kind'] {
  if (endpoint.kind !== 'systemd') return endpoint.kind;
  return endpoint.domain === 'UNIX' ? 'unix' : 'tcp';
}

/** A local address at which a listener on `interface` can be reached. */
export function reachableHost({ interface: bound }: TcpEndpoint): string {
  return bound === null || bound === '::' || bound === '0.0.0.0' ? '127.0.0.1' : bound;
}

/** Formats an endpoint as in the configuration; the inverse of `parseEndpoint`. */
export function formatEndpoint(endpoint: Endpoint): string {
  return formatFields(endpoint).join(':');
}

function formatFields(endpoint: Endpoint): string[] {
  const options = endpoint.kind === 'systemd' ? [] : option('backlog', endpoint.backlog?.toString() ?? null);
  switch (endpoint.kind) {
    case 'tcp': {
      const { port, tls } = endpoint;
      const files =
        tls === null ? [`tcp:${port}`] : [`ssl:${port}`, ...(tls === 'acme' ? [] : tlsOptions(tls))];
      return [...files, ...option('interface', endpoint.interface), ...options];
    }
    case 'unix': {
      const mode = option('mode', endpoint.mode?.toString(8) ?? null);
      return [`unix:${escape(endpoint.path)}`, ...mode, ...options];
    }
    case 'systemd': {
      const { domain, socket, tls } = endpoint;
      const which = option(typeof socket === 'number' ? 'index' : 'name', String(socket));
      const files = tls === 'acme' ? option('tls', tls) : tls === null ? [] : tlsOptions(tls);
      return [`systemd:domain=${domain}`, ...which, ...files];
    }
  }
}

function tlsOptions({ keyPath, certificatePath, chainPath }: TlsFiles): string[] {
  const certificate = option('certKey', certificatePath === keyPath ? null : certificatePath);
  return [...option('privateKey', keyPath), ...certificate, ...option('extraCertChain', chainPath)];
}

function option(name: string, value: string | null): string[] {
  return value === null ? [] : [`${name}=${escape(value)}`];
}

function escape(text: string): string {
  return text.replace(/[\\:=,\s]/gu, '\\$&');
}

function parseTcp(fields: Fields): TcpEndpoint {
  const port = fields.takeRequired('port');
  const address = fields.take('interface');
  const backlog = fields.takeNumber('backlog', 10, 1, MAX_BACKLOG);
  const tls = fields.kind !== 'ssl' ? null : hasTlsFiles(fields) ? takeTls(fields) : 'acme';
  if (fields.has('privateKey') || fields.has('certKey')) {
    throw new EndpointError('tcp: does not support TLS; with a key and a certificate, use ssl:');
  }
  fields.rejectOthers(`port, interface and backlog${tls === null ? '' : ` beside ${TLS_OPTIONS}`}`);
  const number = toPort(port);
  // Names are rejected, because they may change.
  if (address !== null && parseAddress(address) === null) {
    throw new EndpointError(`interface "${address}" is not an IP address (write IPv6 with \\:)`);
  }
  return { kind: 'tcp', port: number, interface: address, backlog, tls };
}

function toPort(text: string): number {
  if (/^\d{1,5}$/u.test(text) && Number(text) <= MAX_PORT) return Number(text);
  throw new EndpointError(`"${text}" is not a port: ports are 0 to ${MAX_PORT}`);
}

const TLS_OPTIONS = 'privateKey, certKey, extraCertChain, sslmethod and dhParameters';

function hasTlsFiles(fields: Fields): boolean {
  return ['privateKey', 'certKey', 'extraCertChain', 'sslmethod', 'dhParameters'].some((key) =>
    fields.has(key),
  );
}

function takeTls(fields: Fields): TlsFiles {
  const keyPath = fields.takeRequired('privateKey');
  // Like in Twisted, one file may contain both.
  const certificatePath = fields.has('certKey') ? fields.takeRequired('certKey') : keyPath;
  const chainPath = fields.has('extraCertChain') ? fields.takeRequired('extraCertChain') : null;
  // Accepted but not needed: modern key exchanges have their own parameters.
  fields.take('dhParameters');
  const method = fields.take('sslmethod');
  if (method !== null && !ACCEPTED_SSL_METHODS.has(method)) {
    const known = [...ACCEPTED_SSL_METHODS].join(', ');
    throw new EndpointError(`sslmethod "${method}" is not TLS 1.2 or later; omit it, or use ${known}`);
  }
  for (const path of [keyPath, certificatePath, chainPath]) rejectNulByte(fields, path ?? '');
  return { keyPath, certificatePath, chainPath };
}

function parseUnix(fields: Fields): UnixEndpoint {
  const path = fields.takeRequired('address');
  const mode = fields.takeNumber('mode', 8, 0, 0o777);
  const backlog = fields.takeNumber('backlog', 10, 1, MAX_BACKLOG);
  // Twisted's option. Its default is what the listener always does: it checks for a live owner before it
  // replaces a socket.
  fields.take('lockfile');
  fields.rejectOthers('address, mode, backlog and lockfile');
  rejectNulByte(fields, path);
  // sun_path has 108 bytes with the final zero (unix(7)); bind would truncate the path silently.
  if (new TextEncoder().encode(path).length > 107) {
    throw new EndpointError(`the path "${path}" is longer than 107 bytes, the limit of a unix socket`);
  }
  return { kind: 'unix', path, mode, backlog };
}

function parseSystemd(fields: Fields): SystemdEndpoint {
  const text = fields.takeRequired('domain');
  const domain = (['INET', 'INET6', 'UNIX'] as const).find((known) => known === text);
  if (domain === undefined) throw new EndpointError(`domain "${text}" is not INET, INET6 or UNIX`);
  const index = fields.takeNumber('index', 10, 0, MAX_INDEX);
  const name = fields.take('name');
  const socket = index ?? name;
  if (socket === null || socket === '' || (index !== null && name !== null)) {
    throw new EndpointError('systemd: needs either an index or a name (FileDescriptorName= in the unit)');
  }
  // Twisted does not support TLS here; the options are those of ssl:.
  const isSecure = ['privateKey', 'certKey', 'extraCertChain'].some((key) => fields.has(key));
  const certificate = fields.take('tls');
  if ((isSecure || certificate !== null) && domain === 'UNIX')
    throw new EndpointError('TLS is not supported on unix sockets');
  if (certificate !== null && (certificate !== 'acme' || isSecure))
    throw new EndpointError('the only value of tls is acme, and it needs no files');
  const tls = isSecure ? takeTls(fields) : certificate;
  fields.rejectOthers(`domain, index and name, and for TLS ${TLS_OPTIONS}, or tls=acme`);
  return { kind: 'systemd', domain, socket, tls };
}

function rejectNulByte({ kind }: Fields, path: string): void {
  if (path.includes('\0')) throw new EndpointError(`${kind}: a path can't contain a zero byte`);
}

/** The fields of one endpoint that have not been taken yet. */
class Fields {
  readonly kind: string;
  /** Fields without a name. They all stand for the first required one. */
  readonly #positional: string[] = [];
  readonly #named = new Map<string, string>();

  constructor(text: string) {
    const [first, ...fields] = splitFields(text);
    this.kind = first?.name === null ? first.value : '';
    for (const { name, value } of fields) {
      if (name === null) this.#positional.push(value);
      else if (this.#named.has(name)) throw new EndpointError(`"${text}" has ${name}= twice`);
      else this.#named.set(name, value);
    }
  }

  has(name: string): boolean {
    return this.#named.has(name);
  }

  take(name: string): string | null {
    const value = this.#named.get(name) ?? null;
    this.#named.delete(name);
    return value;
  }

  takeRequired(name: string): string {
    const named = this.take(name);
    const [value = '', ...others] = [...this.#positional.splice(0), ...(named === null ? [] : [named])];
    if (others.length > 0)
      throw new EndpointError(`${this.kind}: has more than one ${name} (write a literal colon as \\:)`);
    if (value === '') throw new EndpointError(`${this.kind}: ${name} is missing`);
    return value;
  }

  takeNumber(name: string, radix: 8 | 10, min: number, max: number): number | null {
    const text = this.take(name);
    if (text === null) return null;
    const isNumber = (radix === 8 ? /^[0-7]{1,6}$/u : /^\d{1,10}$/u).test(text);
    const number = isNumber ? Number.parseInt(text, radix) : Number.NaN;
    if (number >= min && number <= max) return number;
    throw new EndpointError(
      `${name} "${text}" is not ${radix === 8 ? 'an octal' : 'a'} number from ${min.toString(radix)} to ${max.toString(radix)}`,
    );
  }

  /** @param known all options, for the operator */
  rejectOthers(known: string): void {
    for (const name of this.#named.keys())
      throw new EndpointError(`${this.kind}: unknown option "${name}"; the options are ${known}`);
  }
}

interface Field {
  readonly name: string | null;
  readonly value: string;
}

function splitFields(text: string): Field[] {
  const fields: Field[] = [];
  let name: string | null = null;
  let value = '';
  for (let at = 0; at < text.length; at += 1) {
    const char = text.charAt(at);
    if (char === '\\') {
      at += 1;
      if (at === text.length) throw new EndpointError(`"${text}" ends with a single backslash`);
      value += text.charAt(at);
    } else if (char === ':') {
      fields.push({ name, value });
      name = null;
      value = '';
    } else if (char === '=' && name === null) {
      name = value;
      value = '';
    } else {
      value += char;
    }
  }
  fields.push({ name, value });
  return fields;
}

export interface HostPort {
  /** An IP address without brackets, or a host name. */
  readonly host: string;
  readonly port: number;
}

/** Maximum length of a DNS name, in characters. */
const MAX_NAME_LENGTH = 253;

/**
 * Parses `HOST:PORT`. The host is an IPv4 address, an IPv6 address in brackets, or a name for DNS or
 * `/etc/hosts`. Returns null for anything else, including IPv4 addresses that only the C library accepts,
 * like `2130706433` and `0x7f.1`.
 */
export function parseHostPort(text: string): HostPort | null {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/u.exec(text) ?? [];
  const [host, port] = [bracketed ?? plain ?? '', Number(digits)];
  const isWhole = bracketed === undefined ? isHost(host) : host.includes(':') && isHost(host);
  return isWhole && port >= 1 && port <= 65_535 ? { host, port } : null;
}

/** Whether the text is an IP address without brackets and zone, or a host name. */
export function isHost(text: string): boolean {
  if (parseAddress(text) !== null) return true;
  const isName = /^\w(?:[\w-]*\w)?(?:\.\w(?:[\w-]*\w)?)*\.?$/u.test(text) && text.length <= MAX_NAME_LENGTH;
  // The C library treats every name that ends in a number as an address.
  return isName && !/(?:^|\.)(?:\d+|0x[\da-f]*)\.?$/iu.test(text);
}
