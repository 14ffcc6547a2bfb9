import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import {
  ENDPOINT_GRAMMAR,
  EndpointError,
  formatEndpoint,
  parseEndpoint,
  parseEndpoints,
} from '../../src/net/endpoint.ts';
import type { Endpoint } from '../../src/net/endpoint.ts';

const tcp = (port: number, address: string | null = null, backlog: number | null = null): Endpoint => ({
  kind: 'tcp',
  port,
  interface: address,
  backlog,
});
const unix = (path: string, mode: number | null = null, backlog: number | null = null): Endpoint => ({
  kind: 'unix',
  path,
  mode,
  backlog,
});

describe('an endpoint', () => {
  const cases: readonly (readonly [text: string, endpoint: Endpoint])[] = [
    ['4001', tcp(4001)],
    ['0', tcp(0)],
    ['65535', tcp(65_535)],
    ['tcp:4001', tcp(4001)],
    ['tcp:0', tcp(0)],
    ['tcp:65535', tcp(65_535)],
    ['tcp:port=4001', tcp(4001)],
    ['tcp:4001:interface=127.0.0.1', tcp(4001, '127.0.0.1')],
    ['tcp:port=4001:interface=127.0.0.1', tcp(4001, '127.0.0.1')],
    ['tcp:interface=127.0.0.1:port=4001', tcp(4001, '127.0.0.1')],
    ['tcp:interface=127.0.0.1:4001', tcp(4001, '127.0.0.1')],
    ['tcp:4001:interface=0.0.0.0', tcp(4001, '0.0.0.0')],
    [String.raw`tcp:4001:interface=\:\:1`, tcp(4001, '::1')],
    [String.raw`tcp:4001:interface=\:\:`, tcp(4001, '::')],
    [String.raw`tcp:4001:interface=2001\:DB8\:\:1`, tcp(4001, '2001:DB8::1')],
    [String.raw`tcp:4001:interface=\:\:ffff\:127.0.0.1`, tcp(4001, '::ffff:127.0.0.1')],
    ['tcp:4001:backlog=1', tcp(4001, null, 1)],
    ['tcp:4001:backlog=511:interface=127.0.0.1', tcp(4001, '127.0.0.1', 511)],
    ['unix:/run/relay.sock', unix('/run/relay.sock')],
    ['unix:relay.sock', unix('relay.sock')],
    ['unix:address=/x', unix('/x')],
    ['unix:/run/relay.sock:mode=660', unix('/run/relay.sock', 0o660)],
    ['unix:/run/relay.sock:mode=0660', unix('/run/relay.sock', 0o660)],
    ['unix:/x:mode=0', unix('/x', 0)],
    ['unix:/x:mode=777', unix('/x', 0o777)],
    ['unix:/x:backlog=128', unix('/x', null, 128)],
    ['unix:/x:lockfile=1', unix('/x')],
    ['unix:/x:lockfile=0:mode=600:backlog=5', unix('/x', 0o600, 5)],
    [String.raw`unix:/a\:b`, unix('/a:b')],
    [String.raw`unix:/a\\b`, unix(String.raw`/a\b`)],
    [String.raw`unix:/a\=b`, unix('/a=b')],
    ['unix:address=/a=b', unix('/a=b')],
    [String.raw`unix:/a\ b`, unix('/a b')],
    [String.raw`unix:/\a\b`, unix('/ab')],
    [`unix:/${'x'.repeat(106)}`, unix(`/${'x'.repeat(106)}`)],
  ];
  for (const [text, endpoint] of cases) {
    test(`may be written ${text}`, () => {
      assert.deepEqual(parseEndpoint(text), endpoint);
      assert.deepEqual(parseEndpoints(text), [endpoint]);
    });
  }
});

describe('several endpoints', () => {
  const both = [tcp(4001), unix('/run/relay.sock', 0o660)];

  test('are separated by blanks, newlines and tabs, in their order', () => {
    for (const separator of [' ', '\n', '\t', '\r\n', '  \n  ']) {
      assert.deepEqual(parseEndpoints(`tcp:4001${separator}unix:/run/relay.sock:mode=660`), both);
    }
  });

  test('may have blanks around them', () => {
    assert.deepEqual(parseEndpoints(' \n tcp:4001 unix:/run/relay.sock:mode=660 \n'), both);
  });

  test('are none where nothing is written', () => {
    assert.deepEqual(parseEndpoints(''), []);
    assert.deepEqual(parseEndpoints(' \n\t '), []);
  });

  test('may have escaped blanks in them', () => {
    assert.deepEqual(parseEndpoints(String.raw`unix:/a\ b unix:/c\\ 4001`), [
      unix('/a b'),
      unix(String.raw`/c\ `.trimEnd()),
      tcp(4001),
    ]);
  });

  test('are refused for one that is wrong', () => {
    assert.throws(() => parseEndpoints('tcp:4001 tcp:70000 4002'), /"70000"/u);
  });

  test('are refused for separators of other kinds', () => {
    assert.throws(() => parseEndpoints('tcp:4001,tcp:4002'), EndpointError);
  });

  test('are what the grammar for operators shows', () => {
    const examples = ENDPOINT_GRAMMAR.replace(/^endpoints like /u, '')
      .split(', ')
      .slice(0, -1);
    assert.equal(examples.length, 4);
    for (const example of examples) assert.equal(parseEndpoints(example).length, 1, example);
  });
});

describe('a fault', () => {
  const cases: readonly (readonly [text: string, culprits: readonly string[]])[] = [
    ['', ['neither tcp:… nor unix:…']],
    ['4001x', ['"4001x"', 'neither tcp:… nor unix:…']],
    ['-1', ['"-1"']],
    ['127.0.0.1:4001', ['"127.0.0.1:4001"']],
    ['tls:4001', ['"tls:4001"']],
    ['TCP:4001', ['"TCP:4001"']],
    ['ws://localhost', ['"ws://localhost"']],
    ['tcp=4001', ['"tcp=4001"']],
    ['65536', ['"65536"', '65535']],
    ['99999999999999999999', ['"99999999999999999999"']],
    ['tcp', ['tcp:', 'port']],
    ['tcp:', ['tcp:', 'port']],
    ['tcp:port=', ['tcp:', 'port']],
    ['tcp:http', ['"http"', 'port']],
    ['tcp:65536', ['"65536"', 'port']],
    ['tcp:-1', ['"-1"', 'port']],
    ['tcp:4001.5', ['"4001.5"', 'port']],
    ['tcp:0x10', ['"0x10"', 'port']],
    ['tcp:4001:4002', ['more than one port']],
    ['tcp:4001:port=4001', ['more than one port']],
    ['tcp:4001:127.0.0.1', ['more than one port']],
    ['tcp:port=4001:port=4002', ['port=', 'twice']],
    ['tcp:4001:interface=localhost', ['interface', '"localhost"']],
    ['tcp:4001:interface=', ['interface', '""']],
    ['tcp:4001:interface=1.2.3', ['interface', '"1.2.3"']],
    ['tcp:4001:interface=1.2.3.256', ['interface', '"1.2.3.256"']],
    ['tcp:4001:interface=01.2.3.4', ['interface', '"01.2.3.4"']],
    ['tcp:4001:interface=1.2.3.4.5', ['interface', '"1.2.3.4.5"']],
    ['tcp:4001:interface=::1', [String.raw`\:`]],
    [String.raw`tcp:4001:interface=\:\:g`, ['interface', '"::g"', String.raw`\:`]],
    [String.raw`tcp:4001:interface=\:\:1\:\:`, ['interface', '"::1::"']],
    [String.raw`tcp:4001:interface=[\:\:1]`, ['interface', '"[::1]"']],
    [String.raw`tcp:4001:interface=\:\:1]/`, ['interface', '"::1]/"']],
    ['tcp:4001:backlog=0', ['backlog', '"0"']],
    ['tcp:4001:backlog=-5', ['backlog', '"-5"']],
    ['tcp:4001:backlog=many', ['backlog', '"many"']],
    ['tcp:4001:backlog=2147483648', ['backlog', '"2147483648"']],
    ['tcp:4001:backlog=', ['backlog', '""']],
    ['tcp:4001:mode=660', ['tcp:', '"mode"']],
    ['tcp:4001:lockfile=1', ['tcp:', '"lockfile"']],
    ['unix', ['unix:', 'address']],
    ['unix:', ['unix:', 'address']],
    ['unix:/a:/b', ['unix:', 'more than one address', String.raw`\:`]],
    ['unix:/a=b', ['unix:', 'address']],
    ['unix:/a:mode=680', ['mode', '"680"', 'octal']],
    ['unix:/a:mode=1000', ['mode', '"1000"', '777']],
    ['unix:/a:mode=rw', ['mode', '"rw"']],
    ['unix:/a:mode=', ['mode', '""']],
    ['unix:/a:backlog=x', ['backlog', '"x"']],
    ['unix:/a:interface=127.0.0.1', ['unix:', '"interface"']],
    ['unix:/a:mode=600:mode=660', ['mode=', 'twice']],
    ['unix:/a\\', ['unix:/a\\', 'backslash']],
    ['\\', ['backslash']],
    [`unix:/${'x'.repeat(107)}`, ['107 bytes', 'x'.repeat(107)]],
    [`unix:/${'é'.repeat(54)}`, ['107 bytes']],
  ];
  for (const [text, culprits] of cases) {
    test(`in ${JSON.stringify(text.slice(0, 40))} is told by its name`, () => {
      assert.throws(
        () => parseEndpoint(text),
        (error: unknown) => {
          assert.ok(error instanceof EndpointError);
          for (const culprit of culprits) assert.ok(error.message.includes(culprit), error.message);
          return true;
        },
      );
    });
  }
});

describe('a printed endpoint', () => {
  test('looks as an operator would write it', () => {
    assert.equal(formatEndpoint(tcp(4001)), 'tcp:4001');
    assert.equal(formatEndpoint(tcp(1, '::1', 5)), String.raw`tcp:1:interface=\:\:1:backlog=5`);
    assert.equal(formatEndpoint(unix('/run/a b', 0o660)), String.raw`unix:/run/a\ b:mode=660`);
    assert.equal(formatEndpoint(unix('/x', 0, 7)), 'unix:/x:mode=0:backlog=7');
  });

  const backlog = fc.option(fc.integer({ min: 1, max: 2 ** 31 - 1 }));
  const path = fc
    .string({
      unit: fc.oneof(
        fc.constantFrom(':', '=', '\\', ' ', '\n', '\t', '\u00a0', '/', '"', 'mode', 'é', '😀'),
        fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }).filter((unit) => unit !== '\0'),
      ),
      minLength: 1,
      maxLength: 40,
    })
    .filter((text) => Buffer.byteLength(text) <= 107);
  const endpoint = fc.oneof(
    fc.record(
      {
        kind: fc.constant('tcp' as const),
        port: fc.integer({ min: 0, max: 65_535 }),
        interface: fc.option(fc.oneof(fc.ipV4(), fc.ipV6())),
        backlog,
      },
      { noNullPrototype: true },
    ),
    fc.record(
      {
        kind: fc.constant('unix' as const),
        path,
        mode: fc.option(fc.integer({ min: 0, max: 0o777 })),
        backlog,
      },
      { noNullPrototype: true },
    ),
  );

  test('is read back as the same, alone and among others', () => {
    fc.assert(
      fc.property(fc.array(endpoint, { maxLength: 4 }), (endpoints) => {
        const printed = endpoints.map(formatEndpoint);
        assert.deepEqual(printed.map(parseEndpoint), endpoints);
        assert.deepEqual(parseEndpoints(printed.join(' ')), endpoints);
        assert.deepEqual(parseEndpoints(`\n${printed.join('\n')}\n`), endpoints);
      }),
      { numRuns: 500 },
    );
  });
});

test('any text is endpoints or an EndpointError, and endpoints can be printed and read back', () => {
  const piece = fc.oneof(
    fc.constantFrom('tcp', 'unix', ':', '=', '\\', ' ', '\n', 'port', 'interface', 'address', 'mode', '4001'),
    fc.constantFrom(
      'backlog',
      'lockfile',
      '660',
      '127.0.0.1',
      String.raw`\:\:1`,
      '/run/x',
      ']',
      '/',
      '[',
      '%',
    ),
    fc.string({ unit: 'binary', maxLength: 5 }),
  );
  const text = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''));
  fc.assert(
    fc.property(text, (all) => {
      for (const parse of [parseEndpoints, (one: string) => [parseEndpoint(one)]]) {
        let endpoints: Endpoint[];
        try {
          endpoints = parse(all);
        } catch (error) {
          assert.ok(error instanceof EndpointError, String(error));
          assert.notEqual(error.message, '');
          continue;
        }
        assert.deepEqual(parseEndpoints(endpoints.map(formatEndpoint).join(' ')), endpoints);
      }
    }),
    { numRuns: 3000 },
  );
});
