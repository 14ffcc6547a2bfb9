import { isIPv4, isIPv6 } from 'node:net';
import { MAX_PROXY_HEADER_BYTES, parseProxyHeader } from '../../../src/protocol/proxy-header.ts';
import { cutsOf, expectSame, expectTrue, many, pick } from '../target.ts';
import type { Choices, Target } from '../target.ts';
import { printedAddress } from './address-reference.ts';

const SIGNATURE = '\r\n\r\n\0\r\nQUIT\n';

const DICTIONARY: Choices<string> = [
  'PROXY ',
  'TCP4 ',
  'TCP6 ',
  'UNKNOWN',
  ' ',
  '\r\n',
  '\r',
  '255.255.255.255',
  '192.0.2.1',
  '::',
  '::ffff:192.0.2.1',
  'ffff:'.repeat(7),
  '1:2:3:4:5:6:7:',
  '65535',
  '65536',
  ' 0',
  SIGNATURE,
  `${SIGNATURE}\x21\x11\x00\x0c`,
  `${SIGNATURE}\x21\x21\x00\x24`,
  `${SIGNATURE}\x20\x00\x00\x00`,
  `${SIGNATURE}\x21\x11\x10\x00`,
  '\x10\x01',
  '\0'.repeat(12),
  `${'\0'.repeat(10)}\xff\xff`,
];

interface Expected {
  readonly kind: 'proxy' | 'none' | 'bad' | 'bad or incomplete';
  readonly address?: string | null;
  readonly bytes?: number;
}

/** The expected result by the specification, with Node's own address parser. */
function expected(text: string): Expected {
  if (text.startsWith('PROXY')) return expectedLine(text);
  if (text.startsWith(SIGNATURE)) return expectedBinary(Buffer.from(text, 'latin1'));
  const mayBecome = [SIGNATURE, 'PROXY'].some((signature) => signature.startsWith(text));
  return { kind: mayBecome ? 'bad or incomplete' : 'none' };
}

function expectedLine(text: string): Expected {
  const [line] = /^.*?\r\n/su.exec(text) ?? [];
  const least = line?.length ?? text.length + (text.endsWith('\r') ? 1 : 2);
  if (least > 107) return { kind: 'bad' };
  if (line === undefined) return { kind: 'bad or incomplete' };
  if (/^PROXY UNKNOWN(?: .*)?\r\n$/su.test(line)) return { kind: 'proxy', address: null, bytes: line.length };
  const [, family, source = '', destination = '', ...ports] =
    /^PROXY TCP([46]) (\S+) (\S+) (\d{1,5}) (\d{1,5})\r\n$/u.exec(line) ?? [];
  const isAddress =
    family === '4' ? isIPv4 : (one: string) => isIPv6(one) && !one.includes('%') && one.length <= 39;
  const isGood =
    isAddress(source) &&
    isAddress(destination) &&
    ports.every((port) => Number(port) <= 65_535 && String(Number(port)) === port);
  return isGood ? { kind: 'proxy', address: printedAddress(source), bytes: line.length } : { kind: 'bad' };
}

function expectedBinary(bytes: Buffer): Expected {
  const waiting: Expected = { kind: 'bad or incomplete' };
  if (bytes.length < 16) return waiting;
  const [command, protocol] = [bytes.readUInt8(12), bytes.readUInt8(13)];
  const end = 16 + bytes.readUInt16BE(14);
  const isLocal = command === 0x20;
  const least = new Map([
    [0x11, 16 + 12],
    [0x21, 16 + 36],
  ]).get(protocol);
  const isKnown = isLocal || (command === 0x21 && (protocol & 0x0f) <= 2 && protocol <= 0x3f);
  if (!isKnown || end > 16 + 4096 || (!isLocal && end < (least ?? 0))) return { kind: 'bad' };
  if (bytes.length < end) return waiting;
  if (isLocal || least === undefined) return { kind: 'proxy', address: null, bytes: end };
  const clusters = (): string[] =>
    Array.from({ length: 8 }, (_, at) => bytes.readUInt16BE(16 + 2 * at).toString(16));
  const address = protocol === 0x11 ? bytes.subarray(16, 20).join('.') : clusters().join(':');
  return { kind: 'proxy', address: printedAddress(address), bytes: end };
}

export const proxyHeader: Target = {
  dictionary: DICTIONARY,

  make(random) {
    const octet = (): string => pick(random, ['0', '1', '99', '255', String(random.between(0, 300))]);
    const ipv4 = (): string => [octet(), octet(), octet(), octet()].join('.');
    const ipv6 = (): string =>
      pick(random, [
        '::',
        '::1',
        '2001:db8::f',
        `::ffff:${ipv4()}`,
        many(random, 6, 8, () => `${octet()}:`) + pick(random, [octet(), ':']),
      ]);
    const port = (): string => pick(random, ['0', '1', '65535', String(random.between(0, 70_000))]);
    const body = (): string =>
      many(random, 0, 60, () => String.fromCharCode(pick(random, [0, 255, random.between(0, 255)])));
    const binary = (bytes: string): string =>
      SIGNATURE +
      String.fromCharCode(
        pick(random, [0x20, 0x21, 0x21, 0x21]),
        pick(random, [0, 0x11, 0x11, 0x21, 0x21, 0x31, 0x12]),
        bytes.length >> 8,
        bytes.length & 0xff,
      ) +
      bytes;
    const header = pick(random, [
      `PROXY TCP4 ${ipv4()} ${ipv4()} ${port()} ${port()}\r\n`,
      `PROXY TCP6 ${ipv6()} ${ipv6()} ${port()} ${port()}\r\n`,
      `PROXY UNKNOWN${pick(random, ['', ' ', ` ${'f'.repeat(random.between(88, 94))}`])}\r\n`,
      binary(body()),
      binary(body().padEnd(random.between(4090, 4100), 'x')),
    ]);
    return header + pick(random, ['', '\r\n', 'please relay ']);
  },

  check(input, random) {
    let isDecided = false;
    const whole = parseProxyHeader(input).kind;
    for (const cut of cutsOf(input, random)) {
      const start = input.subarray(0, cut);
      const header = parseProxyHeader(start);
      const { kind, address, bytes } = expected(start.toString('latin1'));
      if (kind === 'bad or incomplete')
        expectTrue(
          header.kind === 'bad' || header.kind === 'incomplete',
          `${header.kind} after ${cut} bytes`,
        );
      else expectSame(header.kind, kind, `after ${cut} bytes`);
      if (header.kind === 'proxy') {
        expectSame(header.address, address, 'the address');
        expectTrue(start.subarray(bytes).equals(header.rest), 'the rest differs');
      }
      if (isDecided || header.kind !== 'incomplete')
        expectSame(header.kind, whole, `decided after ${cut} bytes`);
      isDecided ||= header.kind !== 'incomplete';
      expectTrue(isDecided || cut < MAX_PROXY_HEADER_BYTES, 'it waits for too many bytes');
    }
  },
};
