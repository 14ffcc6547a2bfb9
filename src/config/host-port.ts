import { parseAddress } from '../protocol/ip-address.ts';

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
