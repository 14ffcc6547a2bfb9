/** The PEM files of a listener that speaks TLS. `chainPath` has what clients need to trust the certificate. */
export interface TlsFiles {
  readonly keyPath: string;
  readonly certificatePath: string;
  readonly chainPath: string | null;
}

/** `interface` is an IP address; null means every address of the machine. */
export interface TcpEndpoint {
  readonly kind: 'tcp';
  readonly port: number;
  readonly interface: string | null;
  readonly backlog: number | null;
  /** Null: no TLS. */
  readonly tls: TlsFiles | null;
}

export interface UnixEndpoint {
  readonly kind: 'unix';
  readonly path: string;
  readonly mode: number | null;
  readonly backlog: number | null;
}

/** A socket that systemd has bound and passes to the relay. */
export interface SystemdEndpoint {
  readonly kind: 'systemd';
  readonly domain: 'INET' | 'INET6' | 'UNIX';
  /** Its place among those that are passed, from 0, or its name. */
  readonly socket: number | string;
  /** Null: no TLS. */
  readonly tls: TlsFiles | null;
}

/** Where the relay really listens: an address that others can connect to. */
export type BoundEndpoint = TcpEndpoint | UnixEndpoint;

/** Where to listen. */
export type Endpoint = BoundEndpoint | SystemdEndpoint;

/** What is wrong with an endpoint, in a sentence for the operator. */
export class EndpointError extends Error {}

/** What an operator may write. */
export const ENDPOINT_GRAMMAR =
  'endpoints like tcp:4001, tcp:4001:interface=127.0.0.1, tcp:4001:interface=\\:\\:1, ' +
  'ssl:443:privateKey=/etc/relay/key.pem:certKey=/etc/relay/fullchain.pem, ' +
  'unix:/run/relay.sock:mode=660, systemd:domain=INET:index=0, separated by blanks';

const MAX_PORT = 65_535;
const MAX_BACKLOG = 2 ** 31 - 1;

/** Descriptors are ints, and the first that systemd passes is 3 (sd_listen_fds(3)). */
const MAX_INDEX = 2 ** 31 - 1 - 3;

/** Values of Twisted's sslmethod that stand for "whatever is best", or for what is never less than TLS 1.2. */
const ACCEPTED_SSL_METHODS: ReadonlySet<string> = new Set(['TLS_METHOD', 'SSLv23_METHOD', 'TLSv1_2_METHOD']);

/**
 * Reads endpoints separated by blanks. A blank inside an endpoint is written as `\ `.
 *
 * @throws EndpointError for the first endpoint that is none.
 */
export function parseEndpoints(text: string): Endpoint[] {
  return (text.match(/(?:\\.|[^\s\\])+|\\$/gsu) ?? []).map(parseEndpoint);
}

/**
 * Reads one endpoint: Twisted's description strings (`kind:value:name=value`, with a backslash before a
 * literal `:`, `=` or `\`), or a bare port.
 *
 * @throws EndpointError
 */
export function parseEndpoint(text: string): Endpoint {
  if (/^\d+$/u.test(text)) return parseTcp('tcp', [text], new Map());
  const [first, ...fields] = splitFields(text);
  const positional = fields.filter((field) => field.name === null).map((field) => field.value);
  const named = new Map<string, string>();
  for (const { name, value } of fields) {
    if (name === null) continue;
    if (named.has(name)) throw new EndpointError(`"${text}" says ${name}= twice`);
    named.set(name, value);
  }
  const kind = first?.name === null ? first.value : '';
  if (kind === 'tcp' || kind === 'ssl') return parseTcp(kind, positional, named);
  if (kind === 'unix') return parseUnix(positional, named);
  if (kind === 'systemd') return parseSystemd(positional, named);
  throw new EndpointError(`"${text}" begins with none of tcp:, ssl:, unix: and systemd:`);
}

/** What its connections are to the kernel. */
export function socketFamily(endpoint: Endpoint): BoundEndpoint['kind'] {
  if (endpoint.kind !== 'systemd') return endpoint.kind;
  return endpoint.domain === 'UNIX' ? 'unix' : 'tcp';
}

/** An address of this machine that leads to a listener on `interface`. */
export function reachableHost({ interface: bound }: TcpEndpoint): string {
  return bound === null || bound === '::' || bound === '0.0.0.0' ? '127.0.0.1' : bound;
}

/** Prints an endpoint the way it is written in the configuration; `parseEndpoint` reads it back. */
export function formatEndpoint(endpoint: Endpoint): string {
  return formatFields(endpoint).join(':');
}

function formatFields(endpoint: Endpoint): string[] {
  const options = endpoint.kind === 'systemd' ? [] : option('backlog', endpoint.backlog?.toString() ?? null);
  switch (endpoint.kind) {
    case 'tcp': {
      const { port, tls } = endpoint;
      const files = tls === null ? [`tcp:${port}`] : [`ssl:${port}`, ...tlsOptions(tls)];
      return [...files, ...option('interface', endpoint.interface), ...options];
    }
    case 'unix': {
      const mode = option('mode', endpoint.mode?.toString(8) ?? null);
      return [`unix:${escape(endpoint.path)}`, ...mode, ...options];
    }
    case 'systemd': {
      const { domain, socket, tls } = endpoint;
      const which = option(typeof socket === 'number' ? 'index' : 'name', String(socket));
      return [`systemd:domain=${domain}`, ...which, ...(tls === null ? [] : tlsOptions(tls))];
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
  return text.replace(/[\\:=\s]/gu, '\\$&');
}

function parseTcp(
  kind: 'tcp' | 'ssl',
  positional: readonly string[],
  named: Map<string, string>,
): TcpEndpoint {
  const port = takeRequired(kind, 'port', positional, named);
  const address = take(named, 'interface');
  const backlog = takeNumber(named, 'backlog', 10, 1, MAX_BACKLOG);
  const tls = kind === 'ssl' ? takeTls(kind, named) : null;
  if (named.has('privateKey') || named.has('certKey')) {
    throw new EndpointError('tcp: has no TLS; with a key and a certificate it is ssl:');
  }
  rejectUnknownOptions(
    kind,
    `port, interface and backlog${tls === null ? '' : ` beside ${TLS_OPTIONS}`}`,
    named,
  );
  if (!/^\d{1,5}$/u.test(port) || Number(port) > MAX_PORT) {
    throw new EndpointError(`"${port}" is no port: ports go from 0 to ${MAX_PORT}`);
  }
  if (address !== null && !isAddress(address)) {
    throw new EndpointError(`interface "${address}" is no IP address (IPv6 is written with \\:)`);
  }
  return { kind: 'tcp', port: Number(port), interface: address, backlog, tls };
}

const TLS_OPTIONS = 'privateKey, certKey, extraCertChain, sslmethod and dhParameters';

function takeTls(kind: string, named: Map<string, string>): TlsFiles {
  const keyPath = takeRequired(kind, 'privateKey', [], named);
  // As in Twisted: one file may have both.
  const certificatePath = named.has('certKey') ? takeRequired(kind, 'certKey', [], named) : keyPath;
  const chainPath = named.has('extraCertChain') ? takeRequired(kind, 'extraCertChain', [], named) : null;
  // Today's key exchanges bring parameters of their own.
  take(named, 'dhParameters');
  const method = take(named, 'sslmethod');
  if (method !== null && !ACCEPTED_SSL_METHODS.has(method)) {
    const known = [...ACCEPTED_SSL_METHODS].join(', ');
    throw new EndpointError(
      `sslmethod "${method}" is not modern TLS, 1.2 or later; leave it out, or use ${known}`,
    );
  }
  for (const path of [keyPath, certificatePath, chainPath]) rejectNulByte(kind, path ?? '');
  return { keyPath, certificatePath, chainPath };
}

function parseUnix(positional: readonly string[], named: Map<string, string>): UnixEndpoint {
  const path = takeRequired('unix', 'address', positional, named);
  const mode = takeNumber(named, 'mode', 8, 0, 0o777);
  const backlog = takeNumber(named, 'backlog', 10, 1, MAX_BACKLOG);
  // Twisted takes it, and its default is what we always do: look for a live owner before replacing.
  take(named, 'lockfile');
  rejectUnknownOptions('unix', 'address, mode, backlog and lockfile', named);
  rejectNulByte('unix', path);
  // sun_path has 108 bytes with its final zero (unix(7)); bind would cut the path short in silence.
  if (new TextEncoder().encode(path).length > 107) {
    throw new EndpointError(`the path "${path}" is longer than the 107 bytes a unix socket can have`);
  }
  return { kind: 'unix', path, mode, backlog };
}

function parseSystemd(positional: readonly string[], named: Map<string, string>): SystemdEndpoint {
  const text = takeRequired('systemd', 'domain', positional, named);
  const domain = (['INET', 'INET6', 'UNIX'] as const).find((known) => known === text);
  if (domain === undefined) throw new EndpointError(`domain "${text}" is none of INET, INET6 and UNIX`);
  const index = takeNumber(named, 'index', 10, 0, MAX_INDEX);
  const name = take(named, 'name');
  const socket = index ?? name;
  if (socket === null || socket === '' || (index !== null && name !== null)) {
    throw new EndpointError(
      'systemd: takes an index or a name, one of them (FileDescriptorName= in the unit)',
    );
  }
  // Twisted has no TLS here; our options for it are those of ssl:.
  const isSecure = ['privateKey', 'certKey', 'extraCertChain'].some((key) => named.has(key));
  if (isSecure && domain === 'UNIX') throw new EndpointError('there is no TLS on a unix socket');
  const tls = isSecure ? takeTls('systemd', named) : null;
  rejectUnknownOptions('systemd', `domain, index and name, and for TLS ${TLS_OPTIONS}`, named);
  return { kind: 'systemd', domain, socket, tls };
}

function rejectNulByte(kind: string, path: string): void {
  if (path.includes('\0')) throw new EndpointError(`${kind}: a path has no zero byte`);
}

function takeRequired(
  kind: string,
  name: string,
  positional: readonly string[],
  named: Map<string, string>,
): string {
  const values = [...positional, ...(named.has(name) ? [named.get(name) ?? ''] : [])];
  named.delete(name);
  const [value] = values;
  if (values.length === 1 && value !== undefined && value !== '') return value;
  throw new EndpointError(
    values.length > 1
      ? `${kind}: has more than one ${name} (a literal colon is written as \\:)`
      : `${kind}: lacks its ${name}`,
  );
}

function take(named: Map<string, string>, name: string): string | null {
  const value = named.get(name) ?? null;
  named.delete(name);
  return value;
}

function takeNumber(
  named: Map<string, string>,
  name: string,
  radix: 8 | 10,
  min: number,
  max: number,
): number | null {
  const text = take(named, name);
  if (text === null) return null;
  const number = (radix === 8 ? /^[0-7]{1,6}$/u : /^\d{1,10}$/u).test(text)
    ? Number.parseInt(text, radix)
    : -1;
  if (number >= min && number <= max) return number;
  throw new EndpointError(
    `${name} "${text}" is no ${radix === 8 ? 'octal ' : ''}number from ${min.toString(radix)} to ${max.toString(radix)}`,
  );
}

function rejectUnknownOptions(kind: string, known: string, named: ReadonlyMap<string, string>): void {
  for (const name of named.keys()) {
    throw new EndpointError(`${kind}: has no option "${name}"; it takes ${known}`);
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
      if (at === text.length) throw new EndpointError(`"${text}" ends in a lone backslash`);
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

/** An IPv4 or IPv6 address as the URL standard reads one; names are refused, since they may change. */
function isAddress(text: string): boolean {
  if (/^\d{1,3}(?:\.\d{1,3}){3}$/u.test(text)) {
    return text.split('.').every((part) => Number(part) <= 255 && String(Number(part)) === part);
  }
  return /^[\da-f:.]*:[\da-f:.]*$/iu.test(text) && URL.canParse(`http://[${text}]/`);
}
