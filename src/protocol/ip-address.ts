const GROUP = /^[\da-f]{1,4}$/iu;

/**
 * Parses an IP address strictly: no leading zeros in IPv4, no zone in IPv6. Returns its 4 or 16 bytes, or
 * null if the text is not an address.
 *
 * IPv4-mapped IPv6 (`::ffff:10.1.2.3`, as a dual-stack listener reports it) is returned as IPv4, so that a
 * client has one address.
 */
export function parseAddress(text: string): Uint8Array | null {
  const bytes = text.includes(':') ? parseIPv6(text) : parseIPv4(text);
  return bytes === null ? null : unmapIPv4(bytes);
}

/** Formats 4 or 16 bytes in canonical form; IPv6 after RFC 5952, as in URLs. */
export function formatAddress(bytes: Uint8Array): string {
  const plain = unmapIPv4(bytes);
  if (plain.length === 4) return plain.join('.');
  return new URL(`http://[${formatGroups(plain, 8)}]/`).hostname.slice(1, -1);
}

/** Removes the zone of a link-local address: `fe80::1%eth0` becomes `fe80::1`. */
export function stripZone(address: string): string {
  return address.includes(':') ? address.replace(/%.+$/su, '') : address;
}

/**
 * The part of an IP address that identifies a subscriber, in one form for all spellings: all of an IPv4
 * address, also if it is mapped into IPv6, and the first 64 bits of an IPv6 address, because every network
 * has at least as many. A zone (`%eth0`) means something on this host only and does not count.
 *
 * @param address a valid IP address
 * @param ipv6Groups groups of 16 bits that count in an IPv6 address
 */
export function addressPrefix(address: string, ipv6Groups = 4): string {
  const bytes = address.includes(':') ? parseAddress(stripZone(address)) : null;
  if (bytes === null) return address;
  return bytes.length === 4 ? bytes.join('.') : formatGroups(bytes, ipv6Groups);
}

/** True if two addresses are of one family and have their first `bits` bits in common. */
export function hasCommonPrefix(one: Uint8Array, other: Uint8Array, bits: number): boolean {
  return (
    one.length === other.length &&
    one.every((byte, at) => ((byte ^ (other[at] ?? 0)) & prefixMask(bits, at)) === 0)
  );
}

/** The address of the network that an address belongs to: all bits behind the first `bits` are zero. */
export function networkAddress(address: Uint8Array, bits: number): Uint8Array {
  return address.map((byte, at) => byte & prefixMask(bits, at));
}

/** The bits of byte `at` that belong to a prefix of this length. */
function prefixMask(bits: number, at: number): number {
  return (0xff00 >> Math.min(8, Math.max(0, bits - 8 * at))) & 0xff;
}

function formatGroups(bytes: Uint8Array, count: number): string {
  let text = '';
  for (let at = 0; at < 2 * count; at += 2) {
    const group = (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);
    text += `${at === 0 ? '' : ':'}${group.toString(16)}`;
  }
  return text;
}

function parseIPv4(text: string): Uint8Array | null {
  if (!/^\d{1,3}(?:\.\d{1,3}){3}$/u.test(text)) return null;
  const parts = text.split('.');
  return parts.every((part) => Number(part) <= 255 && String(Number(part)) === part)
    ? Uint8Array.from(parts, Number)
    : null;
}

/** Accepts the same texts as inet_pton(3): `::` may stand for a single group. */
function parseIPv6(text: string): Uint8Array | null {
  const bytes = new Uint8Array(16);
  let length = 0;
  /** Where the zeros of `::` go. */
  let gap = text.startsWith('::') ? 0 : -1;
  let at = gap === 0 ? 2 : 0;
  while (at < text.length) {
    const colon = text.indexOf(':', at);
    const group = text.slice(at, colon < 0 ? text.length : colon);
    const ipv4 = colon < 0 && length <= 12 ? parseIPv4(group) : null;
    if (ipv4 === null) {
      if (length === 16 || !GROUP.test(group)) return null;
      const value = Number.parseInt(group, 16);
      bytes[length] = value >> 8;
      bytes[length + 1] = value & 0xff;
    } else {
      bytes.set(ipv4, length);
    }
    length += ipv4 === null ? 2 : 4;
    if (colon < 0) break;
    at = colon + 1;
    if (text[at] === ':') {
      if (gap >= 0) return null;
      gap = length;
      at += 1;
    } else if (at === text.length) {
      return null;
    }
  }
  if (gap < 0) return length === 16 ? bytes : null;
  if (length === 16) return null;
  const end = 16 - (length - gap);
  bytes.copyWithin(end, gap, length);
  return bytes.fill(0, gap, end);
}

function unmapIPv4(bytes: Uint8Array): Uint8Array {
  if (bytes.length !== 16 || bytes[10] !== 0xff || bytes[11] !== 0xff) return bytes;
  for (let at = 0; at < 10; at += 1) if (bytes[at] !== 0) return bytes;
  return bytes.subarray(12);
}
