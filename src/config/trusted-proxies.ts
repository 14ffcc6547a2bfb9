import {
  formatAddress,
  hasCommonPrefix,
  networkAddress,
  parseAddress,
  stripZone,
} from '../protocol/ip-address.ts';

/** A trusted source: a network, as its first address and the length of its prefix, or all Unix sockets. */
export type Cidr =
  { readonly kind: 'network'; readonly start: Uint8Array; readonly bits: number } | { readonly kind: 'unix' };

/** A list of networks is invalid. The message is a sentence for the operator. */
export class CidrError extends Error {}

/** Accepted form of such a list, for error messages. */
export const CIDR_GRAMMAR =
  'addresses and networks like 192.168.1.4, 10.0.0.0/8 or fd00::/8, and unix for unix sockets, ' +
  'separated by blanks or commas';

/**
 * Parses addresses and networks, separated by spaces or commas.
 *
 * @throws CidrError for the first invalid one
 */
export function parseCidrs(text: string): Cidr[] {
  return text
    .split(/[\s,]+/u)
    .filter((one) => one !== '')
    .map(parseCidr);
}

/** Formats a network as in the configuration. `parseCidrs` parses it. */
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
    throw new CidrError(`"${text}" is IPv4 in IPv6 notation: write it as ${formatAddress(start)}/…`);
  }
  const bits = /^(?:0|[1-9]\d{0,2})$/u.test(length) ? Number(length) : Infinity;
  if (bits > most) throw new CidrError(`"${text}" needs a prefix length from 0 to ${most} after the slash`);
  const network = networkAddress(start, bits);
  if (!hasCommonPrefix(start, network, most)) {
    // It is not clear which of the two was meant, and one of them trusts more addresses than the other.
    throw new CidrError(
      `"${text}" is an address within a network: write ${formatAddress(network)}/${bits} for the network or ` +
        `${formatAddress(start)} for the single address`,
    );
  }
  return { kind: 'network', start, bits };
}

/** True if an IP address, with or without a zone, is in one of these networks. */
export function contains(cidrs: readonly Cidr[], address: string): boolean {
  const bytes = parseAddress(stripZone(address));
  return bytes !== null && containsBytes(cidrs, bytes);
}

function containsBytes(cidrs: readonly Cidr[], address: Uint8Array): boolean {
  return cidrs.some((cidr) => cidr.kind === 'network' && hasCommonPrefix(address, cidr.start, cidr.bits));
}

/**
 * The trusted proxies. Finds the address of a client behind them.
 *
 * IPv4-mapped IPv6 counts as IPv4 here; `::/0` does not contain it.
 */
export class TrustedProxies {
  readonly #cidrs: readonly Cidr[];

  constructor(cidrs: readonly Cidr[]) {
    this.#cidrs = cidrs;
  }

  /** True if this peer is a trusted proxy. Null: a peer at a Unix socket, which has no address. */
  trusts(address: string | null): boolean {
    if (address === null) return this.#cidrs.some(({ kind }) => kind === 'unix');
    return contains(this.#cidrs, address);
  }

  /**
   * The address of the client of a request, in the form of `formatAddress`. Null: unknown.
   *
   * Each proxy appends the address of its peer to `X-Forwarded-For`. So the list is read from its end, as
   * long as the writer of an entry is trusted. The client may have forged the entries before that, and
   * everything before an entry that is not an address.
   *
   * @param peerAddress the other end of the connection; null at a Unix socket
   * @param forwardedFor value of the header; several headers are joined by commas
   */
  resolveClientAddress(peerAddress: string | null, forwardedFor: string | undefined): string | null {
    let client = peerAddress === null ? null : parseAddress(stripZone(peerAddress));
    if (this.trusts(peerAddress)) {
      for (const entry of (forwardedFor ?? '').split(',').toReversed()) {
        const address = parseForwardedEntry(entry.trim());
        if (address === null) break;
        client = address;
        if (!containsBytes(this.#cidrs, address)) break;
      }
    }
    return client === null ? null : formatAddress(client);
  }
}

/** Parses an entry as proxies write it: an address, with or without brackets and a port. */
function parseForwardedEntry(entry: string): Uint8Array | null {
  const [, bracketed] = /^\[([^\]]*:[^\]]*)\](?::\d{1,5})?$/u.exec(entry) ?? [];
  if (bracketed !== undefined) return parseAddress(bracketed);
  const [, plain] = /^([^:]*):\d{1,5}$/u.exec(entry) ?? [];
  return parseAddress(plain ?? entry);
}
