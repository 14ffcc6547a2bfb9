import {
  formatAddress,
  hasCommonPrefix,
  networkAddress,
  parseAddress,
  stripZone,
} from '../protocol/ip-address.ts';

/** Whose word about clients is taken: a network's, as the address that all of it begins with, or unix sockets'. */
export type Cidr =
  { readonly kind: 'network'; readonly start: Uint8Array; readonly bits: number } | { readonly kind: 'unix' };

/** What is wrong with a list of proxies, in a sentence for the operator. */
export class CidrError extends Error {}

/** What an operator may write. */
export const CIDR_GRAMMAR =
  'addresses and networks like 192.168.1.4, 10.0.0.0/8 or fd00::/8, and unix for unix sockets, ' +
  'separated by blanks or commas';

/**
 * Reads addresses and networks, separated by blanks or commas.
 *
 * @throws CidrError for the first one that is none.
 */
export function parseCidrs(text: string): Cidr[] {
  return text
    .split(/[\s,]+/u)
    .filter((one) => one !== '')
    .map(parseCidr);
}

/** Prints a network the way it is written in the configuration; `parseCidrs` reads it back. */
export function formatCidr(cidr: Cidr): string {
  return cidr.kind === 'unix' ? 'unix' : `${formatAddress(cidr.start)}/${cidr.bits}`;
}

function parseCidr(text: string): Cidr {
  if (text.toLowerCase() === 'unix') return { kind: 'unix' };
  const [address = '', length, ...more] = text.split('/');
  const start = parseAddress(address);
  if (start === null || more.length > 0) {
    throw new CidrError(`"${text}" is neither an IP address nor a network like 10.0.0.0/8`);
  }
  const most = start.length * 8;
  if (length === undefined) return { kind: 'network', start, bits: most };
  if (start.length === 4 && address.includes(':')) {
    throw new CidrError(`"${text}" is written as IPv6 and holds IPv4: write it as ${formatAddress(start)}/…`);
  }
  const bits = /^(?:0|[1-9]\d{0,2})$/u.test(length) ? Number(length) : Infinity;
  if (bits > most) throw new CidrError(`"${text}" has no number from 0 to ${most} behind its slash`);
  const network = networkAddress(start, bits);
  if (!hasCommonPrefix(start, network, most)) {
    // Which of the two was meant can't be told, and one of them trusts more than the other.
    throw new CidrError(
      `"${text}" is an address within a network: write ${formatAddress(network)}/${bits} for the network or ` +
        `${formatAddress(start)} for the one address`,
    );
  }
  return { kind: 'network', start, bits };
}

/** Whether an IP address, which may have a zone behind it, is in one of these networks. */
export function contains(cidrs: readonly Cidr[], address: string): boolean {
  const bytes = parseAddress(stripZone(address));
  return (
    bytes !== null &&
    cidrs.some((cidr) => cidr.kind === 'network' && hasCommonPrefix(bytes, cidr.start, cidr.bits))
  );
}

/**
 * Knows which proxies are trusted, and so whom a connection that came by them is from.
 *
 * IPv4 that is mapped into IPv6 is IPv4 here; `::/0` does not hold it.
 */
export class TrustedProxies {
  readonly #cidrs: readonly Cidr[];

  constructor(cidrs: readonly Cidr[]) {
    this.#cidrs = cidrs;
  }

  /** Whether the word of this peer is taken. Null is one at a unix socket, which has no address. */
  trusts(address: string | null): boolean {
    if (address === null) return this.#cidrs.some(({ kind }) => kind === 'unix');
    const bytes = parseAddress(stripZone(address));
    return bytes !== null && this.#isTrusted(bytes);
  }

  /**
   * The address of the client that a request is from, as `formatAddress` prints it. Null is an unknown one.
   *
   * Each proxy adds to the end of `X-Forwarded-For` whom it got the request from, so the list is read from there,
   * as long as whoever wrote an entry is trusted. What lies beyond, the client may have made up; and so may be
   * what comes before an entry that is no address.
   *
   * @param peerAddress who is at the other end of the connection; null at a unix socket
   * @param forwardedFor the header's value, several headers joined by commas
   */
  resolveClientAddress(peerAddress: string | null, forwardedFor: string | undefined): string | null {
    const transport = peerAddress === null ? null : parseAddress(stripZone(peerAddress));
    let client = transport;
    if (this.trusts(peerAddress)) {
      for (const entry of (forwardedFor ?? '').split(',').toReversed()) {
        const address = parseForwardedEntry(entry.trim());
        if (address === null) break;
        client = address;
        if (!this.#isTrusted(address)) break;
      }
    }
    return client === null ? null : formatAddress(client);
  }

  #isTrusted(address: Uint8Array): boolean {
    return this.#cidrs.some(
      (cidr) => cidr.kind === 'network' && hasCommonPrefix(address, cidr.start, cidr.bits),
    );
  }
}

/** An entry as proxies write them: an address, perhaps in brackets, perhaps with a port. */
function parseForwardedEntry(entry: string): Uint8Array | null {
  const [, bracketed] = /^\[([^\]]*:[^\]]*)\](?::\d{1,5})?$/u.exec(entry) ?? [];
  if (bracketed !== undefined) return parseAddress(bracketed);
  const [, plain] = /^([^:]*):\d{1,5}$/u.exec(entry) ?? [];
  return parseAddress(plain ?? entry);
}
