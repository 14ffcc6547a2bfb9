import { formatAddress, parseAddress } from './ip-address.ts';

/**
 * The header that a proxy sends before the client's bytes, with the client's address: HAProxy's PROXY
 * protocol, version 1 (a line of text) and version 2 (binary). Source:
 * https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
 *
 * Any client can send such a header, so only headers of trusted proxies may be read.
 */
type ProxyHeader =
  /** The bytes may be the beginning of a header. */
  | { readonly kind: 'incomplete' }
  /** The bytes do not begin like a header. */
  | { readonly kind: 'none' }
  /** The bytes begin like a header and cannot become a valid one. */
  | { readonly kind: 'bad' }
  | {
      readonly kind: 'proxy';
      /** The client's address in the format of `formatAddress`; null if the proxy does not name one. */
      readonly address: string | null;
      /** The bytes after the header. Shares memory with the input. */
      readonly rest: Uint8Array;
    };

const INCOMPLETE: ProxyHeader = { kind: 'incomplete' };
const NONE: ProxyHeader = { kind: 'none' };
const BAD: ProxyHeader = { kind: 'bad' };

/** The longest line of version 1, in bytes and with its CRLF. Source: section 2.1. */
const MAX_LINE_BYTES = 107;

/** Bytes of version 2 up to its addresses. */
const FIXED_BYTES = 16;

/** Limit of the bytes after them. The protocol allows 65,535; proxies send less than 536 (section 2). */
const MAX_VARIABLE_BYTES = 4096;

/** The longest header that is read, in bytes. */
export const MAX_PROXY_HEADER_BYTES = FIXED_BYTES + MAX_VARIABLE_BYTES;

const LINE_SIGNATURE = Uint8Array.from('PROXY', (char) => char.charCodeAt(0));
const BINARY_SIGNATURE = Uint8Array.from('\r\n\r\n\0\r\nQUIT\n', (char) => char.charCodeAt(0));

/**
 * Parses a header from everything that a connection has sent so far. The result does not depend on how the
 * bytes are split.
 */
export function parseProxyHeader(bytes: Uint8Array): ProxyHeader {
  for (const signature of [LINE_SIGNATURE, BINARY_SIGNATURE]) {
    const start = bytes.subarray(0, signature.length);
    if (!start.every((byte, at) => byte === signature[at])) continue;
    if (start.length < signature.length) return INCOMPLETE;
    return signature === LINE_SIGNATURE ? parseLine(bytes) : parseBinary(bytes);
  }
  return NONE;
}

/**
 * One field of a line, between spaces: whether a text is valid there, and whether it is the beginning of a
 * valid text.
 */
interface Field {
  readonly isComplete: (text: string) => boolean;
  readonly isPrefix: (text: string) => boolean;
}

/** Every beginning of an address or port becomes valid with one of these. */
const COMPLETIONS = ['', '0', '0.0', '0.0.0', '0.0.0.0', '.0', '.0.0', '.0.0.0', ':', '::'];

function field(isComplete: (text: string) => boolean): Field {
  return { isComplete, isPrefix: (text) => COMPLETIONS.some((end) => isComplete(text + end)) };
}

function literal(expected: string): Field {
  return { isComplete: (text) => text === expected, isPrefix: (text) => expected.startsWith(text) };
}

const IPV4 = field((text) => !text.includes(':') && parseAddress(text) !== null);
// 39 characters are eight groups of four. This keeps the lines of the table below within their limit.
const IPV6 = field((text) => text.length <= 39 && text.includes(':') && parseAddress(text) !== null);
const PORT = field((text) => /^(?:0|[1-9]\d{0,4})$/u.test(text) && Number(text) <= 65_535);

const LINE_FORMATS: readonly (readonly Field[])[] = [
  [literal('PROXY'), literal('TCP4'), IPV4, IPV4, PORT, PORT],
  [literal('PROXY'), literal('TCP6'), IPV6, IPV6, PORT, PORT],
];

/** Sent by a proxy that does not know its client's address; any text may follow. */
const UNKNOWN = 'PROXY UNKNOWN';

function parseLine(bytes: Uint8Array): ProxyHeader {
  const text = String.fromCharCode(...bytes.subarray(0, MAX_LINE_BYTES));
  const end = text.indexOf('\r\n');
  if (end < 0) return isLinePrefix(text) ? INCOMPLETE : BAD;
  const line = text.slice(0, end);
  if (!isCompleteLine(line)) return BAD;
  const address = isUnknown(line) ? null : parseAddress(line.split(' ')[2] ?? '');
  return {
    kind: 'proxy',
    address: address === null ? null : formatAddress(address),
    rest: bytes.subarray(end + 2),
  };
}

function isUnknown(line: string): boolean {
  return line === UNKNOWN || line.startsWith(`${UNKNOWN} `);
}

function isCompleteLine(line: string): boolean {
  if (isUnknown(line)) return true;
  const texts = line.split(' ');
  return LINE_FORMATS.some(
    (fields) =>
      texts.length === fields.length && fields.every(({ isComplete }, at) => isComplete(texts[at] ?? '')),
  );
}

/** True if a valid line can begin with `text`, which contains no CRLF. */
function isLinePrefix(text: string): boolean {
  const missing = text.endsWith('\r') ? 1 : 2;
  if (text.length + missing > MAX_LINE_BYTES) return false;
  if (text.endsWith('\r') && isCompleteLine(text.slice(0, -1))) return true;
  if (isUnknown(text) || UNKNOWN.startsWith(text)) return true;
  const texts = text.split(' ');
  const last = texts.length - 1;
  return LINE_FORMATS.some((fields) =>
    texts.every((one, at) => (at === last ? fields[at]?.isPrefix(one) : fields[at]?.isComplete(one))),
  );
}

const VERSION = 2;
const LOCAL = 0;
const PROXY = 1;

const TCP_OVER_IPV4 = 0x11;
const TCP_OVER_IPV6 = 0x21;

/** Section 2.2. Checksums and everything else after the addresses are not checked. */
function parseBinary(bytes: Uint8Array): ProxyHeader {
  const [command, protocol, high, low] = bytes.subarray(BINARY_SIGNATURE.length, FIXED_BYTES);
  if (command === undefined) return INCOMPLETE;
  if (command >> 4 !== VERSION || (command & 0x0f) > PROXY) return BAD;
  // A health check of the proxy itself: the addresses mean nothing.
  const isLocal = (command & 0x0f) === LOCAL;
  if (protocol === undefined) return INCOMPLETE;
  if (!isLocal && !isKnownProtocol(protocol)) return BAD;
  if (high === undefined) return INCOMPLETE;
  if (high * 256 + (low ?? 0) > MAX_VARIABLE_BYTES) return BAD;
  if (low === undefined) return INCOMPLETE;
  const end = FIXED_BYTES + high * 256 + low;
  const addressBytes = isLocal ? null : addressLength(protocol);
  // Two addresses and two ports.
  if (addressBytes !== null && end < FIXED_BYTES + 2 * addressBytes + 4) return BAD;
  if (bytes.length < end) return INCOMPLETE;
  return {
    kind: 'proxy',
    address:
      addressBytes === null ? null : formatAddress(bytes.subarray(FIXED_BYTES, FIXED_BYTES + addressBytes)),
    rest: bytes.subarray(end),
  };
}

/** Families are none, IPv4, IPv6 and unix. Transports are none, stream and datagram. */
function isKnownProtocol(protocol: number): boolean {
  return protocol >> 4 <= 3 && (protocol & 0x0f) <= 2;
}

/** Null for protocols that this relay does not use: such a header is skipped. */
function addressLength(protocol: number): number | null {
  if (protocol === TCP_OVER_IPV4) return 4;
  return protocol === TCP_OVER_IPV6 ? 16 : null;
}
