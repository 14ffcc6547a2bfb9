/**
 * Reads an IP address strictly: no leading zeros in IPv4, no zone behind IPv6. Returns its 4 or 16 bytes, or
 * null for anything else.
 *
 * IPv4 that is mapped into IPv6 (`::ffff:10.1.2.3`, as a listener for both reports it) comes back as IPv4, so that
 * one client has one address.
 */
export function parseAddress(text: string): Uint8Array | null {
  const bytes = text.includes(':') ? parseIPv6(text) : parseIPv4(text);
  return bytes === null ? null : unmapIPv4(bytes);
}

/** Prints 4 or 16 bytes in the one form that each address has: for IPv6 that of RFC 5952, as URLs have it. */
export function formatAddress(bytes: Uint8Array): string {
  const plain = unmapIPv4(bytes);
  if (plain.length === 4) return plain.join('.');
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((plain[2 * index] ?? 0) * 256 + (plain[2 * index + 1] ?? 0)).toString(16),
  );
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1);
}

function parseIPv4(text: string): Uint8Array | null {
  if (!/^\d{1,3}(?:\.\d{1,3}){3}$/u.test(text)) return null;
  const parts = text.split('.');
  return parts.every((part) => Number(part) <= 255 && String(Number(part)) === part)
    ? Uint8Array.from(parts, Number)
    : null;
}

function parseIPv6(text: string): Uint8Array | null {
  const behindColon = text.lastIndexOf(':') + 1;
  const tail = text.slice(behindColon);
  if (!tail.includes('.')) return parseGroups(text);
  const bytes = parseIPv4(tail);
  if (bytes === null) return null;
  const [a = 0, b = 0, c = 0, d = 0] = bytes;
  return parseGroups(
    `${text.slice(0, behindColon)}${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`,
  );
}

function parseGroups(text: string): Uint8Array | null {
  const [left = '', right, ...more] = text.split('::');
  const before = left === '' ? [] : left.split(':');
  const after = right === undefined || right === '' ? [] : right.split(':');
  const missing = 8 - before.length - after.length;
  // As inet_pton has it, `::` may stand for a single group.
  if (more.length > 0 || (right === undefined ? missing !== 0 : missing < 1)) return null;
  const groups = [...before, ...Array.from({ length: missing }, () => '0'), ...after];
  if (!groups.every((group) => /^[\da-f]{1,4}$/iu.test(group))) return null;
  return Uint8Array.from(
    groups.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff]),
  );
}

function unmapIPv4(bytes: Uint8Array): Uint8Array {
  const isMapped =
    bytes.length === 16 && bytes.subarray(0, 12).every((byte, at) => byte === (at < 10 ? 0 : 0xff));
  return isMapped ? bytes.subarray(12) : bytes;
}
