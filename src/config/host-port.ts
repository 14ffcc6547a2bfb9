import { parseAddress } from '../protocol/ip-address.ts';

export interface HostPort {
  /** An IP address without brackets, or a name. */
  readonly host: string;
  readonly port: number;
}

/** The longest name in DNS, in characters. */
const MAX_NAME_LENGTH = 253;

/**
 * Reads `HOST:PORT`. The host is an IPv4 address, an IPv6 address in brackets, or a name as DNS and `/etc/hosts` have them. Null for
 * anything else: also for IPv4 addresses in the forms that only the C library takes, like `2130706433` and `0x7f.1`.
 */
export function parseHostPort(text: string): HostPort | null {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/u.exec(text) ?? [];
  const [host, port] = [bracketed ?? plain ?? '', Number(digits)];
  const isWhole = bracketed === undefined ? isHost(host) : host.includes(':') && isHost(host);
  return isWhole && port >= 1 && port <= 65_535 ? { host, port } : null;
}

/** Whether that is an IP address, without brackets and zone, or a name. */
export function isHost(text: string): boolean {
  if (parseAddress(text) !== null) return true;
  const isName = /^\w(?:[\w-]*\w)?(?:\.\w(?:[\w-]*\w)?)*\.?$/u.test(text) && text.length <= MAX_NAME_LENGTH;
  // What ends in a number is an address to the C library, whatever comes before.
  return isName && !/(?:^|\.)(?:\d+|0x[\da-f]*)\.?$/iu.test(text);
}
