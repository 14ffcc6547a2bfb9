import { isIPv4, isIPv6 } from 'node:net';

/**
 * The canonical form of an address by Node's URL parser, with mapped IPv4 as IPv4. Null for an invalid
 * address.
 */
export function printedAddress(text: string): string | null {
  if (isIPv4(text)) return text;
  if (!isIPv6(text) || text.includes('%')) return null;
  const printed = new URL(`http://[${text}]/`).hostname.slice(1, -1);
  const [, high, low] = /^::ffff:([\da-f]{1,4}):([\da-f]{1,4})$/u.exec(printed) ?? [];
  if (high === undefined || low === undefined) return printed;
  return [high, low]
    .flatMap((cluster) => [parseInt(cluster, 16) >> 8, parseInt(cluster, 16) & 0xff])
    .join('.');
}
