import assert from 'node:assert/strict';
import { BlockList, isIPv4 } from 'node:net';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import {
  CIDR_GRAMMAR,
  CidrError,
  TrustedProxies,
  formatCidr,
  parseCidrs,
} from '../../../src/config/trusted-proxies.ts';
import { formatAddress, parseAddress } from '../../../src/protocol/ip-address.ts';

const trusting = (text: string): TrustedProxies => new TrustedProxies(parseCidrs(text));

describe('parsing a list of networks', () => {
  const cases: readonly (readonly [text: string, formatted: readonly string[]])[] = [
    ['', []],
    [' , ,, ', []],
    ['10.0.0.0/8', ['10.0.0.0/8']],
    ['192.168.1.4', ['192.168.1.4/32']],
    ['192.168.1.4/32', ['192.168.1.4/32']],
    ['0.0.0.0/0', ['0.0.0.0/0']],
    ['::/0', ['::/0']],
    ['::1', ['::1/128']],
    ['FD00::/8', ['fd00::/8']],
    ['2001:db8:0:0:8000::/65', ['2001:db8:0:0:8000::/65']],
    ['::ffff:10.1.2.3', ['10.1.2.3/32']],
    ['unix', ['unix']],
    ['UNIX', ['unix']],
    ['10.0.0.0/8 192.168.1.4 fd00::/8 unix', ['10.0.0.0/8', '192.168.1.4/32', 'fd00::/8', 'unix']],
    ['10.0.0.0/8,192.168.1.4, fd00::/8\n\tunix,', ['10.0.0.0/8', '192.168.1.4/32', 'fd00::/8', 'unix']],
  ];
  for (const [text, formatted] of cases) {
    test(`accepts ${JSON.stringify(text)}, which is formatted as ${JSON.stringify(formatted)}`, () => {
      assert.deepEqual(parseCidrs(text).map(formatCidr), formatted);
      assert.deepEqual(parseCidrs(formatted.join(' ')), parseCidrs(text));
    });
  }

  const errors: readonly (readonly [text: string, message: string])[] = [
    ['proxy.example', '"proxy.example" is neither an IP address nor a network like 10.0.0.0/8'],
    ['10.0.0', '"10.0.0" is neither an IP address nor a network like 10.0.0.0/8'],
    ['10.0.0.0/8/8', '"10.0.0.0/8/8" is neither an IP address nor a network like 10.0.0.0/8'],
    ['/8', '"/8" is neither an IP address nor a network like 10.0.0.0/8'],
    ['fe80::1%eth0', '"fe80::1%eth0" is neither an IP address nor a network like 10.0.0.0/8'],
    ['10.0.0.0/', '"10.0.0.0/" needs a prefix length from 0 to 32 after the slash'],
    ['10.0.0.0/33', '"10.0.0.0/33" needs a prefix length from 0 to 32 after the slash'],
    ['10.0.0.0/08', '"10.0.0.0/08" needs a prefix length from 0 to 32 after the slash'],
    ['10.0.0.0/255.0.0.0', '"10.0.0.0/255.0.0.0" needs a prefix length from 0 to 32 after the slash'],
    ['fd00::/129', '"fd00::/129" needs a prefix length from 0 to 128 after the slash'],
    [
      '10.1.2.3/8',
      '"10.1.2.3/8" is an address within a network: write 10.0.0.0/8 for the network or 10.1.2.3 for the single address',
    ],
    [
      'fd00::1/64',
      '"fd00::1/64" is an address within a network: write fd00::/64 for the network or fd00::1 for the single address',
    ],
    ['::ffff:10.0.0.0/104', '"::ffff:10.0.0.0/104" is IPv4 in IPv6 notation: write it as 10.0.0.0/…'],
  ];
  for (const [text, message] of errors) {
    test(`rejects ${text}`, () => {
      assert.throws(() => parseCidrs(`192.168.0.0/16 ${text}`), new CidrError(message));
    });
  }

  test('accepts the examples of the grammar', () => {
    const examples = CIDR_GRAMMAR.match(/[\d.:a-f]+(?:\/\d+)?|unix\b/gu)?.filter((one) =>
      /\d|unix/u.test(one),
    );
    assert.deepEqual(examples, ['192.168.1.4', '10.0.0.0/8', 'fd00::/8', 'unix', 'unix']);
    assert.equal(parseCidrs(examples.join(' ')).length, 5);
  });
});

describe('a trusted proxy', () => {
  const cases: readonly (readonly [list: string, address: string | null, trusted: boolean])[] = [
    ['', '10.0.0.1', false],
    ['', null, false],
    ['unix', null, true],
    ['unix', '10.0.0.1', false],
    ['0.0.0.0/0 ::/0', null, false],
    ['10.0.0.0/8', '10.0.0.0', true],
    ['10.0.0.0/8', '10.255.255.255', true],
    ['10.0.0.0/8', '11.0.0.0', false],
    ['10.0.0.0/8', '9.255.255.255', false],
    ['10.0.0.0/8', '::ffff:10.1.2.3', true],
    ['10.0.0.0/8', '::ffff:a01:203', true],
    ['10.0.0.0/8', '::10.1.2.3', false],
    ['10.0.0.0/8', 'a00::', false],
    ['192.168.1.4', '192.168.1.4', true],
    ['192.168.1.4', '192.168.1.5', false],
    ['172.16.0.0/12', '172.31.255.255', true],
    ['172.16.0.0/12', '172.32.0.0', false],
    ['0.0.0.0/0', '203.0.113.9', true],
    ['0.0.0.0/0', '2001:db8::1', false],
    ['::/0', '2001:db8::1', true],
    ['::/0', '203.0.113.9', false],
    ['fd00::/8', 'fdff::1', true],
    ['fd00::/8', 'fe00::1', false],
    ['fe80::/10', 'fe80::1%eth0', true],
    ['192.168.0.0/16 fd00::/8', 'fd00::1', true],
    ['0.0.0.0/0 ::/0 unix', 'nonsense', false],
    ['0.0.0.0/0 ::/0 unix', '', false],
  ];
  for (const [list, address, trusted] of cases) {
    test(`is ${trusted ? '' : 'not '}${address ?? 'a peer on a unix socket'} with the list ${JSON.stringify(list)}`, () => {
      assert.equal(trusting(list).trusts(address), trusted);
    });
  }

  test("agrees with Node's BlockList", () => {
    const network = fc
      .tuple(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat({ max: 128 }))
      .map(([address, number]) => ({ address, bits: isIPv4(address) ? number % 33 : number }));
    // A neighbour is an address that differs in one bit.
    const bit = fc.nat({ max: 127 });
    fc.assert(
      fc.property(network, bit, ({ address, bits }, flipped) => {
        const bytes = Uint8Array.from(parseAddress(address) ?? []);
        const start = bytes.map(
          (byte, at) => byte & (0xff ^ (0xff >> Math.max(0, Math.min(8, bits - at * 8)))),
        );
        fc.pre(formatAddress(start).includes(':') === address.includes(':'));
        const proxies = trusting(`${formatAddress(start)}/${bits}`);
        const known = new BlockList();
        const family = isIPv4(address) ? 'ipv4' : 'ipv6';
        known.addSubnet(formatAddress(start), bits, family);
        const at = (flipped % (bytes.length * 8)) >> 3;
        bytes[at] = (bytes[at] ?? 0) ^ (0x80 >> (flipped & 7));
        const neighbour = formatAddress(bytes);
        fc.pre(neighbour.includes(':') === address.includes(':'));
        assert.equal(proxies.trusts(address), true);
        assert.equal(proxies.trusts(neighbour), known.check(neighbour, family));
      }),
      { numRuns: 1000 },
    );
  });
});

describe('the client address of a request', () => {
  const LIST = '10.0.0.0/8 fd00::/8 192.168.1.4';
  const cases: readonly (readonly [
    peer: string | null,
    forwarded: string | undefined,
    client: string | null,
  ])[] = [
    // An untrusted peer is the client, whatever header it sends.
    ['203.0.113.9', undefined, '203.0.113.9'],
    ['203.0.113.9', '198.51.100.7', '203.0.113.9'],
    ['203.0.113.9', '10.0.0.1', '203.0.113.9'],
    ['::ffff:203.0.113.9', '198.51.100.7', '203.0.113.9'],
    [null, '198.51.100.7', null],
    // A trusted peer names the client.
    ['10.0.0.1', '198.51.100.7', '198.51.100.7'],
    ['::ffff:10.0.0.1', '198.51.100.7', '198.51.100.7'],
    ['fd00::1', '2001:DB8::1', '2001:db8::1'],
    ['10.0.0.1', '::ffff:198.51.100.7', '198.51.100.7'],
    ['10.0.0.1', undefined, '10.0.0.1'],
    ['10.0.0.1', '', '10.0.0.1'],
    // Entries that the client wrote itself are ignored.
    ['10.0.0.1', '192.0.2.1, 198.51.100.7', '198.51.100.7'],
    ['10.0.0.1', '10.0.0.9, 198.51.100.7', '198.51.100.7'],
    ['10.0.0.1', 'nonsense, 198.51.100.7', '198.51.100.7'],
    // Proxies in front of proxies.
    ['10.0.0.1', '192.0.2.1, 198.51.100.7, 10.0.0.2', '198.51.100.7'],
    ['10.0.0.1', '198.51.100.7,10.0.0.3 ,\t10.0.0.2', '198.51.100.7'],
    ['10.0.0.1', '198.51.100.7, fd00::2, 192.168.1.4', '198.51.100.7'],
    ['10.0.0.1', '10.0.0.3, 10.0.0.2', '10.0.0.3'],
    // An invalid entry ends the search. The last valid address is used.
    ['10.0.0.1', 'unknown', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.7, unknown, 10.0.0.2', '10.0.0.2'],
    ['10.0.0.1', '198.51.100.7, , 10.0.0.2', '10.0.0.2'],
    ['10.0.0.1', '198.51.100.7, 10.0.0.2, ', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.7;10.0.0.2', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.07', '10.0.0.1'],
    ['10.0.0.1', 'fe80::1%eth0', '10.0.0.1'],
    // Ports and brackets as written by proxies.
    ['10.0.0.1', '198.51.100.7:5678', '198.51.100.7'],
    ['10.0.0.1', '192.0.2.1:1, 198.51.100.7:5678, 10.0.0.2:80', '198.51.100.7'],
    ['10.0.0.1', '[2001:db8::1]:443', '2001:db8::1'],
    ['10.0.0.1', '[2001:db8::1]', '2001:db8::1'],
    ['10.0.0.1', '2001:db8::1', '2001:db8::1'],
    ['10.0.0.1', '[198.51.100.7]', '10.0.0.1'],
    ['10.0.0.1', '[2001:db8::1', '10.0.0.1'],
    ['10.0.0.1', '2001:db8::1]', '10.0.0.1'],
    ['10.0.0.1', '[2001:db8::1]x', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.7:', '10.0.0.1'],
    ['10.0.0.1', ':5678', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.7:123456', '10.0.0.1'],
    ['fe80::1%eth0', undefined, 'fe80::1'],
  ];
  for (const [peer, forwarded, client] of cases) {
    test(`is ${client ?? 'unknown'} for the peer ${peer ?? 'on a unix socket'} with the header ${JSON.stringify(forwarded)}`, () => {
      assert.equal(trusting(LIST).resolveClientAddress(peer, forwarded), client);
    });
  }

  test('comes from the header on a unix socket, if unix is trusted', () => {
    const proxies = trusting('unix 10.0.0.0/8');
    assert.equal(proxies.resolveClientAddress(null, '192.0.2.1, 198.51.100.7, 10.0.0.2'), '198.51.100.7');
    assert.equal(proxies.resolveClientAddress(null, undefined), null);
    assert.equal(proxies.resolveClientAddress(null, 'unknown'), null);
    assert.equal(proxies.resolveClientAddress('203.0.113.9', '198.51.100.7'), '203.0.113.9');
  });

  test('does not depend on entries that the client wrote', () => {
    const proxies = trusting(LIST);
    const entry = fc.oneof(
      fc.ipV4(),
      fc.ipV6(),
      fc.constantFrom('10.0.0.1', 'fd00::1', '', '[', ':1'),
      fc.string(),
    );
    const behind = fc.constantFrom('', ', 10.0.0.2', ', fd00::7, 10.0.0.2:80');
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 5 }), behind, (forged, trusted) => {
        const header = [...forged, '198.51.100.7'].join(',') + trusted;
        assert.equal(proxies.resolveClientAddress('10.0.0.1', header), '198.51.100.7');
      }),
    );
  });

  test('is a valid address or null', () => {
    const proxies = trusting('0.0.0.0/0 ::/0 unix');
    const peer = fc.option(fc.oneof(fc.ipV4(), fc.ipV6()));
    fc.assert(
      fc.property(peer, fc.string(), (address, header) => {
        const client = proxies.resolveClientAddress(address, header);
        assert.ok(client === null || parseAddress(client) !== null);
      }),
    );
  });
});
