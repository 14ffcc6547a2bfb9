import { hash, randomBytes } from 'node:crypto';

const SALT_BYTES = 32;

/** A salt that cannot be guessed. It must never leave the memory of this process. */
export function newSalt(random: (bytes: number) => Uint8Array = randomBytes): string {
  return Buffer.from(random(SALT_BYTES)).toString('hex');
}

/** Stands for a prefix where the prefix itself must not be kept. */
export function hashPrefix(salt: string, prefix: string): string {
  return hash('sha256', salt + prefix, 'base64');
}

/** What IPv4 addresses look like within IPv6: five groups of zeros and this one. */
const MAPPED_GROUP = 0xffff;

/**
 * What of an IP address tells one subscriber from another, the same for all ways to write it: all of an IPv4 address,
 * also where it is mapped into IPv6 (`::ffff:192.0.2.1`), and the first 64 bits of an IPv6 address, as every network
 * has at least as many. Zones (`%eth0`) are of this machine and do not count.
 *
 * @param address a valid IP address
 * @param ipv6Groups groups of 16 bits that count in an IPv6 address
 */
export function addressPrefix(address: string, ipv6Groups = 4): string {
  if (!address.includes(':')) return address;
  const [withoutZone = ''] = address.split('%');
  const groups = groupsOf(withoutZone);
  const isMapped = groups[5] === MAPPED_GROUP && groups.slice(0, 5).every((group) => group === 0);
  if (isMapped) return groups.slice(6).flatMap(bytesOf).join('.');
  return groups
    .slice(0, ipv6Groups)
    .map((group) => group.toString(16))
    .join(':');
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): number[] {
  const [before = '', after] = address.split('::');
  const head = parseGroups(before);
  if (after === undefined) return head;
  const tail = parseGroups(after);
  return [...head, ...Array<number>(Math.max(0, 8 - head.length - tail.length)).fill(0), ...tail];
}

function parseGroups(text: string): number[] {
  if (text === '') return [];
  return text
    .split(':')
    .flatMap((group) => (group.includes('.') ? dottedGroups(group) : parseInt(group, 16)));
}

/** `192.0.2.1` as two groups. */
function dottedGroups(text: string): number[] {
  const [a = 0, b = 0, c = 0, d = 0] = text.split('.').map(Number);
  return [a * 256 + b, c * 256 + d];
}

function bytesOf(group: number): number[] {
  return [group >> 8, group & 0xff];
}
