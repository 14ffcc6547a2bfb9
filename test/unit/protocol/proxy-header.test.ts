import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { MAX_PROXY_HEADER_BYTES, parseProxyHeader } from '../../../src/protocol/proxy-header.ts';

interface Reading {
  readonly kind: string;
  readonly address?: string | null;
  readonly rest?: string;
}

/** Parses a string of bytes (one character each), and returns the rest as such a string. */
function read(text: string): Reading {
  const header = parseProxyHeader(Buffer.from(text, 'latin1'));
  return header.kind === 'proxy' ? { ...header, rest: Buffer.from(header.rest).toString('latin1') } : header;
}

const proxied = (address: string | null, rest = ''): Reading => ({ kind: 'proxy', address, rest });

const SIGNATURE = '\r\n\r\n\0\r\nQUIT\n';

/** A header of version 2 that contains `length`, by default the real one. */
function binary(command: number, protocol: number, body: string, length = body.length): string {
  return SIGNATURE + String.fromCharCode(command, protocol, length >> 8, length & 0xff) + body;
}

const IPV4_BODY = '\xc0\x00\x02\x01\xc6\x33\x64\x02\x10\x00\x0f\xa1';
const IPV6_BODY = `\x20\x01\x0d\xb8${'\0'.repeat(11)}\x01${'\xfe'.repeat(16)}\x10\x00\x0f\xa1`;

const GOOD: readonly (readonly [name: string, header: string, address: string | null])[] = [
  ['IPv4 as text', 'PROXY TCP4 192.0.2.1 198.51.100.2 4096 4001\r\n', '192.0.2.1'],
  [
    'the longest IPv4 as text',
    'PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n',
    '255.255.255.255',
  ],
  ['the shortest IPv4 as text', 'PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n', '1.2.3.4'],
  ['IPv6 as text', 'PROXY TCP6 2001:DB8::1 ::1 1 2\r\n', '2001:db8::1'],
  [
    'the longest IPv6 as text',
    `PROXY TCP6 ${'ffff:'.repeat(7)}ffff ${'ffff:'.repeat(7)}ffff 65535 65535\r\n`,
    `${'ffff:'.repeat(7)}ffff`,
  ],
  ['mapped IPv4 as text', 'PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 1 2\r\n', '192.0.2.1'],
  ['an unknown client', 'PROXY UNKNOWN\r\n', null],
  ['an unknown client and further text', 'PROXY UNKNOWN 192.0.2.1 whatever \r \n\r\n', null],
  ['the longest valid line', `PROXY UNKNOWN ${'f'.repeat(91)}\r\n`, null],
  ['IPv4 in binary', binary(0x21, 0x11, IPV4_BODY), '192.0.2.1'],
  ['IPv6 in binary', binary(0x21, 0x21, IPV6_BODY), '2001:db8::1'],
  [
    'mapped IPv4 in binary',
    binary(0x21, 0x21, `${'\0'.repeat(10)}\xff\xff\x0a\x01\x02\x03${'\0'.repeat(20)}`),
    '10.1.2.3',
  ],
  ['IPv4 and extensions', binary(0x21, 0x11, `${IPV4_BODY}\x04\x00\x03abc`), '192.0.2.1'],
  ['the longest binary header', binary(0x21, 0x11, IPV4_BODY.padEnd(4096, 'x')), '192.0.2.1'],
  ['a health check of the proxy', binary(0x20, 0x00, ''), null],
  ['a health check with addresses', binary(0x20, 0x11, IPV4_BODY), null],
  ['a health check of an unknown family', binary(0x20, 0xff, 'xyz'), null],
  ['a client of no family', binary(0x21, 0x00, 'xyz'), null],
  ['a client at a unix socket', binary(0x21, 0x31, 'x'.repeat(216)), null],
  ['datagrams', binary(0x21, 0x12, IPV4_BODY), null],
  ['IPv6 without a transport', binary(0x21, 0x20, IPV6_BODY), null],
];

describe('a header of', () => {
  for (const [name, header, address] of GOOD) {
    test(`${name} names ${address ?? 'no client'}, and leaves the bytes after it unchanged`, () => {
      assert.deepEqual(read(header), proxied(address));
      assert.deepEqual(read(`${header}\r\nPROXY \0\xff`), proxied(address, '\r\nPROXY \0\xff'));
    });

    test(`${name} is incomplete at every cut`, () => {
      for (let cut = 0; cut < header.length; cut += 1) {
        assert.deepEqual(read(header.slice(0, cut)), { kind: 'incomplete' }, `after ${cut} bytes`);
      }
    });
  }

  test('the longest kind has the length of the constant', () => {
    assert.equal(Math.max(...GOOD.map(([, header]) => header.length)), MAX_PROXY_HEADER_BYTES);
  });
});

/** Each with the number of bytes after which it is rejected. */
const BAD: readonly (readonly [why: string, header: string, known: number])[] = [
  ['has no space after its first word', 'PROXYTCP4', 6],
  ['has an unknown protocol', 'PROXY UDP4 ', 8],
  ['has more characters after its protocol', 'PROXY TCP46', 11],
  ['has a lower-case protocol', 'PROXY tcp4', 7],
  ['has two spaces', 'PROXY  TCP4', 7],
  ['has a part of an address that is too large', 'PROXY TCP4 1.256', 16],
  ['has a leading zero in its address', 'PROXY TCP4 01', 13],
  ['has IPv6 instead of IPv4', 'PROXY TCP4 1:', 13],
  ['has IPv4 instead of IPv6', 'PROXY TCP6 1.', 13],
  ['has too many groups', 'PROXY TCP6 1:2:3:4:5:6:7:8:', 27],
  ['has an address of more than 39 characters', 'PROXY TCP6 0000:0000:0000:0000:0000:ffff:255.255.1.1', 47],
  ['has a zone', 'PROXY TCP6 fe80::1%', 19],
  ['has an address that ends too early', 'PROXY TCP4 1.2.3 ', 17],
  ['has an address of seven groups', 'PROXY TCP6 1:2:3:4:5:6:7 ', 25],
  ['has an invalid second address', 'PROXY TCP4 1.2.3.4 x', 20],
  ['has a port that is too large', 'PROXY TCP4 1.2.3.4 1.2.3.4 65536', 32],
  ['has a leading zero in its port', 'PROXY TCP4 1.2.3.4 1.2.3.4 00', 29],
  ['has no second port', 'PROXY TCP4 1.2.3.4 1.2.3.4 1\r', 29],
  ['has more characters after its ports', 'PROXY TCP4 1.2.3.4 1.2.3.4 1 2 ', 31],
  ['has its CRLF too early', 'PROXY TCP4\r', 11],
  ['has a carriage return without a newline', 'PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX', 32],
  ['has a newline without a carriage return', 'PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n', 31],
  ['has a longer word than UNKNOWN', 'PROXY UNKNOWNS', 14],
  ['has more than a carriage return after UNKNOWN', 'PROXY UNKNOWN\rX', 15],
  ['has too many characters after UNKNOWN', `PROXY UNKNOWN ${'f'.repeat(92)}\r\n`, 106],
  ['has no end', `PROXY UNKNOWN ${'\r'.repeat(200)}`, 107],
  ['is of version 1 in binary', `${SIGNATURE}\x11`, 13],
  ['is of version 3 in binary', `${SIGNATURE}\x31`, 13],
  ['has an unknown command', `${SIGNATURE}\x22`, 13],
  ['has an unknown family', `${SIGNATURE}\x21\x41`, 14],
  ['has an unknown transport', `${SIGNATURE}\x21\x13`, 14],
  ['is too long', binary(0x21, 0x11, '', 4097), 16],
  ['is far too long', binary(0x20, 0x00, '', 65_535), 15],
  ['is too short for IPv4', binary(0x21, 0x11, '', 11), 16],
  ['is too short for IPv6', binary(0x21, 0x21, '', 35), 16],
];

describe('a bad header is one that', () => {
  for (const [why, header, known] of BAD) {
    test(`${why}, and is rejected from byte ${known} on`, () => {
      for (let cut = 0; cut <= header.length; cut += 1) {
        const expected = cut < known ? 'incomplete' : 'bad';
        assert.deepEqual(read(header.slice(0, cut)), { kind: expected }, `after ${cut} bytes`);
      }
      assert.deepEqual(
        read(`${header}\r\n${GOOD[0]?.[1]}`),
        { kind: 'bad' },
        'a good one behind it does not help',
      );
    });
  }
});

describe('something other than a header', () => {
  const cases: readonly (readonly [text: string, known: number])[] = [
    ['please relay ', 1],
    ['GET / HTTP/1.1\r\n', 1],
    ['POST / HTTP/1.1\r\n', 2],
    ['PROPFIND / HTTP/1.1\r\n', 4],
    ['proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n', 1],
    [' PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n', 1],
    ['\x16\x03\x01', 1],
    ['\r\n\r\nGET', 5],
    ['\r\n\r\n\0\r\nQUIT\r\n', 12],
    ['\n', 1],
  ];
  for (const [text, known] of cases) {
    test(`is ${JSON.stringify(text)}, which is detected from byte ${known} on`, () => {
      for (let cut = 0; cut <= text.length; cut += 1) {
        const expected = cut < known ? 'incomplete' : 'none';
        assert.deepEqual(read(text.slice(0, cut)), { kind: expected }, `after ${cut} bytes`);
      }
    });
  }
});

/** The text grammar as a regular expression; the generator makes the addresses. */
const port = fc.nat({ max: 65_535 });
const line = fc.oneof(
  fc.tuple(fc.ipV4(), fc.ipV4(), port, port).map((fields) => `PROXY TCP4 ${fields.join(' ')}\r\n`),
  fc
    .tuple(fc.ipV6(), fc.ipV6(), port, port)
    .filter(([source, destination]) => source.length <= 39 && destination.length <= 39)
    .map((fields) => `PROXY TCP6 ${fields.join(' ')}\r\n`),
);
const body = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString('latin1'));
const anyBinary = fc
  .tuple(fc.constantFrom(0x20, 0x21, 0x21, 0x12), fc.constantFrom(0, 0x11, 0x21, 0x31, 0x12, 0x44), body)
  .map(([command, protocol, bytes]) => binary(command, protocol, bytes));
const anyHeader = fc.oneof(line, anyBinary, fc.constantFrom(...GOOD.map(([, header]) => header)));
const spoiled = fc
  .tuple(anyHeader, fc.nat({ max: 110 }), fc.nat({ max: 2 }), body)
  .map(([text, at, removed, added]) => text.slice(0, at) + added.slice(0, 2) + text.slice(at + removed));

describe('any bytes', () => {
  test('of a line that follows the grammar are a header', () => {
    fc.assert(fc.property(line, body, (text, rest) => assert.equal(read(text + rest).rest, rest)));
  });

  test('have the same result however they are split', () => {
    fc.assert(
      fc.property(fc.oneof(anyHeader, spoiled, body), body, (header, after) => {
        const text = header + after;
        const whole = read(text);
        for (let cut = 0; cut <= text.length; cut += 1) {
          const soFar = read(text.slice(0, cut));
          if (soFar.kind === 'incomplete') continue;
          const expected =
            soFar.rest === undefined ? soFar : { ...soFar, rest: soFar.rest + text.slice(cut) };
          assert.deepEqual(whole, expected, `decided after ${cut} bytes`);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('of a line that is incomplete can become a header', () => {
    const endings = ['', '0', '0.0', '0.0.0', '0.0.0.0', '.0', '.0.0', '.0.0.0', ':', '::'];
    const behind = [' 0.0.0.0 0 0', ' :: 0 0', ' 0 0', ' 0', ''];
    const more = ['\n', ...endings.flatMap((summary) => behind.map((one) => `${summary}${one}\r\n`))];
    const text = fc.oneof(line, spoiled).filter((one) => /^PROXY TCP[46] /u.test(one));
    fc.assert(
      fc.property(text, fc.integer({ min: 'PROXY TCP4 '.length, max: 110 }), (whole, at) => {
        const start = whole.slice(0, at);
        if (read(start).kind !== 'incomplete') return;
        assert.ok(
          more.some((one) => read(start + one).kind === 'proxy'),
          JSON.stringify(start),
        );
      }),
      { numRuns: 1000 },
    );
  });

  test('never make the parser throw or wait for more than the longest header', () => {
    fc.assert(
      fc.property(fc.oneof(spoiled, body), (start) => {
        assert.notEqual(read(start.padEnd(MAX_PROXY_HEADER_BYTES, '\xff')).kind, 'incomplete');
      }),
      { numRuns: 1000 },
    );
  });
});
