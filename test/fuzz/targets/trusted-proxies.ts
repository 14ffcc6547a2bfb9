import { BlockList, isIP, isIPv4 } from 'node:net';
import { CidrError, TrustedProxies, formatCidr, parseCidrs } from '../../../src/config/trusted-proxies.ts';
import type { Cidr } from '../../../src/config/trusted-proxies.ts';
import { expectSame, expectTrue, many, pick } from '../target.ts';
import type { Choices, Target } from '../target.ts';
import { printedAddress } from './address-reference.ts';

const ADDRESSES: Choices<string> = [
  '10.0.0.1',
  '10.255.255.255',
  '11.0.0.0',
  '198.51.100.7',
  '::ffff:10.1.2.3',
  '::ffff:c633:6407',
  '::10.1.2.3',
  '2001:db8::1',
  'fd00::1',
  'fe80::1%eth0',
  '::',
  '1:2:3:4:5:6:7:8',
  '1:2:3:4:5:6:7::',
  '::2:3:4:5:6:7:8',
];

const NETWORKS: Choices<string> = [
  '10.0.0.0/8',
  '10.0.0.0/31',
  '198.51.100.7',
  '0.0.0.0/0',
  '::/0',
  'fd00::/8',
  '2001:db8::/65',
  'fe80::/10',
  'unix',
  '10.1.2.3/8',
];

const familyOf = (address: string): 'ipv4' | 'ipv6' => (isIPv4(address) ? 'ipv4' : 'ipv6');

/** Node's BlockLists, one per family: in a common one, IPv4 would match `::/0`. */
class Reference {
  readonly #known = { ipv4: new BlockList(), ipv6: new BlockList() };
  readonly #trustsUnix: boolean;

  constructor(cidrs: readonly string[]) {
    this.#trustsUnix = cidrs.includes('unix');
    for (const cidr of cidrs) {
      const [network = '', bits = ''] = cidr.split('/');
      const family = familyOf(network);
      if (cidr !== 'unix') this.#known[family].addSubnet(network, Number(bits), family);
    }
  }

  trusts(address: string | null): boolean {
    if (address === null) return this.#trustsUnix;
    const text = printedAddress(withoutZone(address));
    return text !== null && this.#known[familyOf(text)].check(text, familyOf(text));
  }

  clientOf(transport: string | null, header: string): string | null {
    const client = transport === null ? null : printedAddress(withoutZone(transport));
    if (!this.trusts(transport)) return client;
    const before = header.lastIndexOf(',');
    const entry = entryOf(header.slice(before + 1).trim());
    if (entry === null) return client;
    return before < 0 || !this.trusts(entry) ? entry : this.clientOf(entry, header.slice(0, before));
  }
}

/** For peers only: no other address may name an interface. */
function withoutZone(transport: string): string {
  return transport.includes(':') ? transport.replace(/%.+$/su, '') : transport;
}

/** The address of a header entry, or null if it is invalid. */
function entryOf(text: string): string | null {
  const [, inBrackets] = /^\[([^\]]*)\](?::\d{1,5})?$/u.exec(text) ?? [];
  const address = inBrackets ?? text.replace(/^([\d.]*):\d{1,5}$/u, '$1');
  if (address.includes('%') || (inBrackets !== undefined && isIPv4(inBrackets))) return null;
  return printedAddress(address);
}

function read(text: string): Cidr[] | null {
  try {
    return parseCidrs(text);
  } catch (error) {
    if (error instanceof CidrError) return null;
    throw error;
  }
}

/** Whether a list is valid by Node's address parser. */
function isGoodList(text: string): boolean {
  return text.split(/[\s,]+/u).every((one) => {
    if (one === '' || /^unix$/iu.test(one)) return true;
    const [address = '', bits, ...more] = one.split('/');
    if (isIP(address) === 0 || address.includes('%') || more.length > 0) return false;
    if (bits === undefined) return true;
    const most = isIPv4(address) ? 32 : 128;
    if (
      !/^(?:0|[1-9]\d*)$/u.test(bits) ||
      Number(bits) > most ||
      printedAddress(address)?.includes(':') !== (most === 128)
    ) {
      return false;
    }
    return Number(bits) === most || bitsBehind(address, Number(bits)) === 0n;
  });
}

/** The host bits of an address after a prefix, as a number. */
function bitsBehind(address: string, bits: number): bigint {
  const most = isIPv4(address) ? 32 : 128;
  return numberOf(printedAddress(address) ?? '') & ((1n << BigInt(most - bits)) - 1n);
}

function numberOf(address: string): bigint {
  if (isIPv4(address)) return address.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const [left = '', right] = address.split('::');
  const clusters = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const before = clusters(left);
  const after = clusters(right ?? '');
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return [...before, ...zeros, ...after].reduce((sum, cluster) => sum * 65_536n + BigInt(`0x${cluster}`), 0n);
}

export const trustedProxies: Target = {
  dictionary: [
    ...NETWORKS,
    ...ADDRESSES,
    ',',
    ' ',
    '\n',
    '/',
    '/8',
    '/32',
    '/128',
    ':80',
    '[',
    ']',
    ']:443',
    ':',
    '::',
    ':8',
    '%',
    '.',
  ],

  // Three lines: the list, the peer (empty for a unix socket), the header.
  make(random) {
    const entry = (): string =>
      pick(random, [
        pick(random, ADDRESSES),
        `[${pick(random, ADDRESSES)}]:443`,
        `${pick(random, ADDRESSES)}:80`,
        'unknown',
        '',
      ]);
    const list = many(random, 0, 4, () => pick(random, NETWORKS) + pick(random, [' ', ',', ', ']));
    const transport = random.happens(0.2) ? '' : pick(random, ADDRESSES);
    return `${list}\n${transport}\n${many(random, 0, 4, () => `${entry()},`)}${entry()}`;
  },

  check(input) {
    const [list = '', peerText = '', header = ''] = input.toString('latin1').split('\n');
    const transport = peerText === '' ? null : peerText;
    const cidrs = read(list);
    expectSame(cidrs !== null, isGoodList(list), 'whether the list is good');
    if (cidrs === null) return;
    const texts = cidrs.map(formatCidr);
    expectSame(read(texts.join(' '))?.map(formatCidr), texts, 'the list after formatting');
    const proxies = new TrustedProxies(cidrs);
    const reference = new Reference(texts);
    expectSame(proxies.trusts(transport), reference.trusts(transport), 'whether the peer is trusted');
    const client = proxies.resolveClientAddress(transport, header);
    expectSame(client, reference.clientOf(transport, header), 'the client');
    // An untrusted client can never claim another address.
    if (proxies.trusts('198.51.100.7')) return;
    const forged = proxies.resolveClientAddress(transport, `${header},198.51.100.7`);
    expectTrue(!proxies.trusts(transport) || forged === '198.51.100.7', 'a client chose its own address');
  },
};
