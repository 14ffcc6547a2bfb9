/** Where to listen. `interface` is an IP address; null means every address of the machine. */
export type Endpoint =
  | {
      readonly kind: 'tcp';
      readonly port: number;
      readonly interface: string | null;
      readonly backlog: number | null;
    }
  | {
      readonly kind: 'unix';
      readonly path: string;
      readonly mode: number | null;
      readonly backlog: number | null;
    };

/** What is wrong with an endpoint, in a sentence for the operator. */
export class EndpointError extends Error {}

/** What an operator may write. */
export const ENDPOINT_GRAMMAR =
  'endpoints like tcp:4001, tcp:4001:interface=127.0.0.1, tcp:4001:interface=\\:\\:1, ' +
  'unix:/run/relay.sock:mode=660, separated by blanks';

const MAX_PORT = 65_535;

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
  if (/^\d+$/u.test(text)) return tcp([text], new Map());
  const [first, ...fields] = splitFields(text);
  const positional = fields.filter((field) => field.name === null).map((field) => field.value);
  const named = new Map<string, string>();
  for (const { name, value } of fields) {
    if (name === null) continue;
    if (named.has(name)) throw new EndpointError(`"${text}" says ${name}= twice`);
    named.set(name, value);
  }
  if (first?.name === null && first.value === 'tcp') return tcp(positional, named);
  if (first?.name === null && first.value === 'unix') return unix(positional, named);
  throw new EndpointError(`"${text}" is neither tcp:… nor unix:…`);
}

/** An address of this machine that leads to a listener on `interface`. */
export function reachableHost({ interface: bound }: Endpoint & { kind: 'tcp' }): string {
  return bound === null || bound === '::' || bound === '0.0.0.0' ? '127.0.0.1' : bound;
}

/** Prints an endpoint the way it is written in the configuration; `parseEndpoint` reads it back. */
export function formatEndpoint(endpoint: Endpoint): string {
  const fields =
    endpoint.kind === 'tcp'
      ? [`tcp:${endpoint.port}`, ...option('interface', endpoint.interface)]
      : [`unix:${escape(endpoint.path)}`, ...option('mode', endpoint.mode?.toString(8) ?? null)];
  return [...fields, ...option('backlog', endpoint.backlog?.toString() ?? null)].join(':');
}

function option(name: string, value: string | null): string[] {
  return value === null ? [] : [`${name}=${escape(value)}`];
}

function escape(text: string): string {
  return text.replace(/[\\:=\s]/gu, '\\$&');
}

function tcp(positional: readonly string[], named: Map<string, string>): Endpoint {
  const port = takeOnly('tcp', 'port', positional, named);
  const address = take(named, 'interface');
  const backlog = takeNumber(named, 'backlog', 10, 1, 2 ** 31 - 1);
  refuseRest('tcp', 'port, interface and backlog', named);
  if (!/^\d{1,5}$/u.test(port) || Number(port) > MAX_PORT) {
    throw new EndpointError(`"${port}" is no port: ports go from 0 to ${MAX_PORT}`);
  }
  if (address !== null && !isAddress(address)) {
    throw new EndpointError(`interface "${address}" is no IP address (IPv6 is written with \\:)`);
  }
  return { kind: 'tcp', port: Number(port), interface: address, backlog };
}

function unix(positional: readonly string[], named: Map<string, string>): Endpoint {
  const path = takeOnly('unix', 'address', positional, named);
  const mode = takeNumber(named, 'mode', 8, 0, 0o777);
  const backlog = takeNumber(named, 'backlog', 10, 1, 2 ** 31 - 1);
  // Twisted takes it, and its default is what we always do: look for a live owner before replacing.
  take(named, 'lockfile');
  refuseRest('unix', 'address, mode, backlog and lockfile', named);
  if (path.includes('\0')) throw new EndpointError('unix: a path has no zero byte');
  // sun_path has 108 bytes with its final zero (unix(7)); bind would cut the path short in silence.
  if (new TextEncoder().encode(path).length > 107) {
    throw new EndpointError(`the path "${path}" is longer than the 107 bytes a unix socket can have`);
  }
  return { kind: 'unix', path, mode, backlog };
}

function takeOnly(
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

function refuseRest(kind: string, known: string, named: ReadonlyMap<string, string>): void {
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
