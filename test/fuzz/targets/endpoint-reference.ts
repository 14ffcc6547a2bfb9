import { isIP } from 'node:net';
import type { Endpoint, TlsFiles } from '../../../src/config/endpoint.ts';

/** A second implementation of the endpoint grammar, as a table. */

type Check = RegExp | ((value: string) => boolean);

const PATH = /^[^\0]+$/u;
const BACKLOG = numberIn(10, 1, 2 ** 31 - 1);

const TLS: Readonly<Record<string, Check>> = {
  privateKey: PATH,
  certKey: PATH,
  extraCertChain: PATH,
  sslmethod: /^(?:TLS|SSLv23|TLSv1_2)_METHOD$/u,
  dhParameters: /^/u,
};

interface Kind {
  /** Positional fields. */
  readonly main: string;
  readonly options: Readonly<Record<string, Check>>;
}

const PORT = numberIn(10, 0, 65_535, 5);
const TCP = {
  port: PORT,
  interface: (value: string) => isIP(value) !== 0 && !value.includes('%'),
  backlog: BACKLOG,
};
const UNIX_PATH = (value: string): boolean => PATH.test(value) && Buffer.byteLength(value) <= 107;

const KINDS: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  ['tcp', { main: 'port', options: TCP }],
  ['ssl', { main: 'port', options: { ...TCP, ...TLS } }],
  [
    'unix',
    {
      main: 'address',
      options: { address: UNIX_PATH, mode: numberIn(8, 0, 0o777, 6), backlog: BACKLOG, lockfile: /^/u },
    },
  ],
  [
    'systemd',
    {
      main: 'domain',
      options: {
        domain: /^(?:INET6?|UNIX)$/u,
        index: numberIn(10, 0, 2 ** 31 - 4),
        name: /./su,
        tls: /^acme$/u,
        ...TLS,
      },
    },
  ],
]);

function numberIn(radix: 8 | 10, min: number, max: number, digits = 10): Check {
  const pattern = new RegExp(`^[0-${radix - 1}]{1,${digits}}$`, 'u');
  return (value) => pattern.test(value) && parseInt(value, radix) >= min && parseInt(value, radix) <= max;
}

/** The meaning of a text, or null if it is invalid. */
export function expectedEndpoint(text: string): Endpoint | null {
  const [kindName, fields] = readPort(text) ?? readFields(text);
  const kind = KINDS.get(kindName);
  if (kind === undefined || fields === null) return null;
  if (!fields.has(kind.main)) return null;
  for (const [name, value] of fields) {
    const check = Object.hasOwn(kind.options, name) ? kind.options[name] : undefined;
    if (check === undefined) return null;
    if (!(check instanceof RegExp ? check.test(value) : check(value))) return null;
  }
  return build(kindName, fields);
}

/** A port, or an address and a port; null for anything else. */
function readPort(text: string): [kind: string, fields: Map<string, string>] | null {
  const at = text.lastIndexOf(':');
  const [host, port] = [text.slice(0, Math.max(at, 0)), text.slice(at + 1)];
  const address = isIP(host) === 4 ? host : /^\[(.*)\]$/su.exec(host)?.[1];
  if (!/^\d+$/u.test(port) || (host !== '' && isIP(address ?? '') === 0)) return null;
  if (host.startsWith('[') && isIP(address ?? '') !== 6) return null;
  const bound: [string, string][] = host === '' ? [] : [['interface', address ?? '']];
  return ['tcp', new Map([['port', port], ...bound])];
}

/** Kind and options of an endpoint; null options if they contradict each other. */
function readFields(text: string): [kind: string, fields: Map<string, string> | null] {
  const parts = text.match(/(?:^|:)(?:\\.|[^\\:])*/gsu) ?? [];
  if (parts.join('') !== text) return ['', null];
  const [kind = '', ...fieldTexts] = parts;
  if (/(?<!\\)(?:\\\\)*=/u.test(kind)) return ['', null];
  const kindName = unescape(kind);
  const fields = new Map<string, string>();
  for (const field of fieldTexts) {
    const [, name, value = ''] = /^:(?:((?:\\.|[^\\=])*)=)?(.*)$/su.exec(field) ?? [];
    const key = name === undefined ? (KINDS.get(kindName)?.main ?? '') : unescape(name);
    if (fields.has(key)) return ['', null];
    fields.set(key, unescape(value));
  }
  return [kindName, fields];
}

function unescape(text: string): string {
  return text.replace(/\\(.)/gsu, '$1');
}

function build(kind: string, fields: ReadonlyMap<string, string>): Endpoint | null {
  const text = (name: string): string => fields.get(name) ?? '';
  const optional = (name: string, radix = 10): number | null =>
    fields.has(name) ? parseInt(text(name), radix) : null;
  const hasTls = ['privateKey', 'certKey', 'extraCertChain'].some((name) => fields.has(name));
  const hasOptions = hasTls || fields.has('sslmethod') || fields.has('dhParameters');
  if ((hasTls || (kind === 'ssl' && hasOptions)) && !fields.has('privateKey')) return null;
  if (hasTls && fields.has('tls')) return null;
  const usesAcme = (kind === 'ssl' && !hasOptions) || fields.has('tls');
  const tls: TlsFiles | 'acme' | null = hasTls
    ? {
        keyPath: text('privateKey'),
        certificatePath: fields.get('certKey') ?? text('privateKey'),
        chainPath: fields.get('extraCertChain') ?? null,
      }
    : usesAcme
      ? 'acme'
      : null;
  if (kind === 'unix') {
    return { kind, path: text('address'), mode: optional('mode', 8), backlog: optional('backlog') };
  }
  if (kind === 'systemd') {
    const domain = text('domain');
    if (domain !== 'INET' && domain !== 'INET6' && domain !== 'UNIX') return null;
    if (fields.has('index') === fields.has('name') || (tls !== null && domain === 'UNIX')) return null;
    if (!hasTls && (fields.has('sslmethod') || fields.has('dhParameters'))) return null;
    return { kind, domain, socket: optional('index') ?? text('name'), tls };
  }
  const bound = fields.get('interface') ?? null;
  return { kind: 'tcp', port: Number(text('port')), interface: bound, backlog: optional('backlog'), tls };
}
