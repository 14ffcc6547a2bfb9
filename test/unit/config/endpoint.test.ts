import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import {
  ENDPOINT_GRAMMAR,
  EndpointError,
  socketFamily,
  formatEndpoint,
  isHost,
  parseEndpoint,
  parseEndpoints,
  parseHostPort,
} from '../../../src/config/endpoint.ts';
import type { Endpoint, SystemdEndpoint, TlsFiles } from '../../../src/config/endpoint.ts';

const tcp = (port: number, address: string | null = null, backlog: number | null = null): Endpoint => ({
  kind: 'tcp',
  port,
  interface: address,
  backlog,
  tls: null,
});
const KEY = '/tls/key.pem';
const CERTIFICATE = '/tls/cert.pem';
const ssl = (port: number, tls: Partial<TlsFiles>, backlog: number | null = null): Endpoint => ({
  kind: 'tcp',
  port,
  interface: null,
  backlog,
  tls: { keyPath: KEY, certificatePath: KEY, chainPath: null, ...tls },
});
const systemd = (
  domain: SystemdEndpoint['domain'],
  socket: number | string,
  tls: TlsFiles | null = null,
): Endpoint => ({ kind: 'systemd', domain, socket, tls });
const unix = (path: string, mode: number | null = null, backlog: number | null = null): Endpoint => ({
  kind: 'unix',
  path,
  mode,
  backlog,
});

describe('parsing an endpoint', () => {
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
    ['ssl:443', { kind: 'tcp', port: 443, interface: null, backlog: null, tls: 'acme' }],
    ['ssl:443:backlog=7', { kind: 'tcp', port: 443, interface: null, backlog: 7, tls: 'acme' }],
    [`ssl:443:privateKey=${KEY}`, ssl(443, {})],
    [`ssl:port=443:privateKey=${KEY}`, ssl(443, {})],
    [`ssl:443:privateKey=${KEY}:certKey=${CERTIFICATE}`, ssl(443, { certificatePath: CERTIFICATE })],
    [`ssl:certKey=${CERTIFICATE}:privateKey=${KEY}:port=0`, ssl(0, { certificatePath: CERTIFICATE })],
    [`ssl:443:privateKey=${KEY}:extraCertChain=chain.pem`, ssl(443, { chainPath: 'chain.pem' })],
    [`ssl:443:privateKey=${KEY}:dhParameters=/tls/dh.pem`, ssl(443, {})],
    [`ssl:443:privateKey=${KEY}:backlog=7`, ssl(443, {}, 7)],
    [`ssl:443:privateKey=${KEY}:sslmethod=TLS_METHOD`, ssl(443, {})],
    [`ssl:443:privateKey=${KEY}:sslmethod=SSLv23_METHOD`, ssl(443, {})],
    [`ssl:443:privateKey=${KEY}:sslmethod=TLSv1_2_METHOD`, ssl(443, {})],
    [
      String.raw`ssl:443:privateKey=/a\:b\ c=d`,
      ssl(443, { keyPath: '/a:b c=d', certificatePath: '/a:b c=d' }),
    ],
    ['systemd:domain=INET:index=0', systemd('INET', 0)],
    ['systemd:INET:index=3', systemd('INET', 3)],
    ['systemd:index=12:domain=INET6', systemd('INET6', 12)],
    ['systemd:domain=UNIX:name=relay.socket', systemd('UNIX', 'relay.socket')],
    // A name may look like an index.
    ['systemd:domain=INET:name=0', systemd('INET', '0')],
    [
      `systemd:domain=INET:name=tls:privateKey=${KEY}:certKey=${CERTIFICATE}:extraCertChain=chain.pem`,
      systemd('INET', 'tls', { keyPath: KEY, certificatePath: CERTIFICATE, chainPath: 'chain.pem' }),
    ],
    [`unix:/${'x'.repeat(106)}`, unix(`/${'x'.repeat(106)}`)],
    [String.raw`unix:/a\,b`, unix('/a,b')],
    [':4001', tcp(4001)],
    [':0', tcp(0)],
    ['0.0.0.0:4001', tcp(4001, '0.0.0.0')],
    ['127.0.0.1:65535', tcp(65_535, '127.0.0.1')],
    ['[::]:4001', tcp(4001, '::')],
    ['[::1]:4001', tcp(4001, '::1')],
    ['[::ffff:127.0.0.1]:4001', tcp(4001, '::ffff:127.0.0.1')],
  ];
  for (const [text, endpoint] of cases) {
    test(`accepts ${text}`, () => {
      assert.deepEqual(parseEndpoint(text), endpoint);
      assert.deepEqual(parseEndpoints(text), [endpoint]);
    });
  }
});

describe('parsing several endpoints', () => {
  const both = [tcp(4001), unix('/run/relay.sock', 0o660)];

  test('accepts commas, spaces, newlines and tabs as separators, and keeps the order', () => {
    for (const separator of [' ', '\n', '\t', '\r\n', '  \n  ', ',', ', ', ' ,\n', ',,']) {
      assert.deepEqual(parseEndpoints(`tcp:4001${separator}unix:/run/relay.sock:mode=660`), both);
    }
  });

  test('ignores whitespace around them', () => {
    assert.deepEqual(parseEndpoints(' \n tcp:4001 unix:/run/relay.sock:mode=660 \n'), both);
  });

  test('returns none for empty text', () => {
    assert.deepEqual(parseEndpoints(''), []);
    assert.deepEqual(parseEndpoints(' \n\t '), []);
  });

  test('accepts escaped commas in them', () => {
    assert.deepEqual(parseEndpoints(String.raw`unix:/a\,b,unix:/c\\,4001,`), [
      unix('/a,b'),
      unix(String.raw`/c\ `.trimEnd()),
      tcp(4001),
    ]);
  });

  test('accepts escaped spaces in them', () => {
    assert.deepEqual(parseEndpoints(String.raw`unix:/a\ b unix:/c\\ 4001`), [
      unix('/a b'),
      unix(String.raw`/c\ `.trimEnd()),
      tcp(4001),
    ]);
  });

  test('rejects all if one is invalid', () => {
    assert.throws(() => parseEndpoints('tcp:4001 tcp:70000 4002'), /"70000"/u);
  });

  test('rejects other separators', () => {
    assert.throws(() => parseEndpoints('tcp:4001;tcp:4002'), EndpointError);
  });

  test('accepts the examples of the grammar for operators', () => {
    const examples = ENDPOINT_GRAMMAR.replace(/^endpoints like /u, '')
      .split(', ')
      .slice(0, -1);
    assert.equal(examples.length, 7);
    for (const example of examples) assert.equal(parseEndpoints(example).length, 1, example);
  });
});

describe('the error for an invalid endpoint', () => {
  const cases: readonly (readonly [text: string, parts: readonly string[]])[] = [
    ['', ['does not begin with tcp:, ssl:, unix: or systemd:']],
    ['4001x', ['"4001x"', 'does not begin with tcp:, ssl:, unix: or systemd:']],
    ['-1', ['"-1"']],
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
    ['tcp:443:privateKey=/k', ['tcp:', 'ssl:']],
    ['tcp:443:certKey=/c', ['tcp:', 'ssl:']],
    ['ssl:443:privateKey=', ['ssl:', 'privateKey']],
    ['ssl:443:certKey=/c', ['ssl:', 'privateKey']],
    ['ssl:privateKey=/k', ['ssl:', 'port']],
    ['ssl:70000:privateKey=/k', ['"70000"', 'port']],
    ['ssl:443:/k', ['more than one port']],
    ['ssl:443:privateKey=/k:certKey=', ['ssl:', 'certKey']],
    ['ssl:443:privateKey=/k:extraCertChain=', ['ssl:', 'extraCertChain']],
    ['ssl:443:privateKey=/k\0', ['ssl:', 'zero byte']],
    ['ssl:443:privateKey=/k:passphrase=x', ['ssl:', '"passphrase"', 'privateKey']],
    ['ssl:443:privateKey=/k:mode=660', ['ssl:', '"mode"']],
    ['ssl:443:privateKey=/k:interface=localhost', ['interface', '"localhost"']],
    [
      'ssl:443:privateKey=/k:sslmethod=SSLv3_METHOD',
      ['"SSLv3_METHOD"', 'TLS 1.2 or later', 'TLSv1_2_METHOD'],
    ],
    ['ssl:443:privateKey=/k:sslmethod=TLSv1_METHOD', ['"TLSv1_METHOD"', 'TLS 1.2 or later']],
    ['ssl:443:privateKey=/k:sslmethod=', ['""', 'TLS 1.2 or later']],
    ['systemd', ['systemd:', 'domain']],
    ['systemd:index=0', ['systemd:', 'domain']],
    ['systemd:domain=IPX:index=0', ['"IPX"', 'INET6']],
    ['systemd:domain=inet:index=0', ['"inet"', 'INET']],
    ['systemd:domain=INET', ['an index or a name']],
    ['systemd:domain=INET:name=', ['an index or a name']],
    ['systemd:domain=INET:index=0:name=x', ['an index or a name']],
    ['systemd:domain=INET:index=-1', ['index', '"-1"']],
    ['systemd:domain=INET:index=x', ['index', '"x"']],
    ['systemd:domain=INET:index=4294967296', ['index', '"4294967296"']],
    ['systemd:domain=INET:index=0:backlog=5', ['systemd:', '"backlog"']],
    ['systemd:domain=INET:index=0:certKey=/c', ['systemd:', 'privateKey']],
    ['systemd:domain=INET:index=0:extraCertChain=/c', ['systemd:', 'privateKey']],
    ['systemd:domain=UNIX:index=0:privateKey=/k', ['TLS is not supported', 'unix']],
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
  for (const [text, parts] of cases) {
    test(`names the invalid part of ${JSON.stringify(text.slice(0, 40))}`, () => {
      assert.throws(
        () => parseEndpoint(text),
        (error: unknown) => {
          assert.ok(error instanceof EndpointError);
          for (const part of parts) assert.ok(error.message.includes(part), error.message);
          return true;
        },
      );
    });
  }
});

describe('the error for an endpoint in another notation', () => {
  const cases: readonly (readonly [text: string, corrected: string | null])[] = [
    ['localhost:4001', '127.0.0.1:4001'],
    ['tcp:0.0.0.0:4001', '0.0.0.0:4001'],
    ['tcp://0.0.0.0:4001', '0.0.0.0:4001'],
    ['tcp://:4001', 'tcp:4001'],
    ['tcp:localhost:4001', '127.0.0.1:4001'],
    ['tcp:[::1]:4001', '[::1]:4001'],
    ['tcp://[::]:4001/', '[::]:4001'],
    ['tcp://4001', 'tcp:4001'],
    ['TCP:4001', 'tcp:4001'],
    ['tcp4:4001', 'tcp:4001'],
    ['tcp=4001', 'tcp:4001'],
    ['port=4001', 'tcp:4001'],
    ['4001/tcp', 'tcp:4001'],
    ['*:4001', 'tcp:4001'],
    ['http://127.0.0.1:4002', '127.0.0.1:4002'],
    ['ws://localhost:4002/', '127.0.0.1:4002'],
    ['tcp:4001:interface=::1', '[::1]:4001'],
    ['tcp:4001:interface=[::1]', '[::1]:4001'],
    ['tcp:4001:interface=localhost', '127.0.0.1:4001'],
    ['tcp:4001:127.0.0.1', '127.0.0.1:4001'],
    ['/run/relay.sock', 'unix:/run/relay.sock'],
    // It is not clear what was meant.
    ['tcp:4001:interface=', null],
    ['relay.example.org:4001', null],
    ['tcp://relay.example.org:4001', null],
    ['4001/udp', null],
    ['5000:4001', null],
    ['tcp:4001:4002', null],
    ['https://0.0.0.0:443', null],
    ['wss://localhost:443', null],
    ['tls:443', null],
    ['0.0.0.0:70000', null],
    [':99999', null],
    ['127.0.0.1', null],
    ['::1:4001', null],
    ['[127.0.0.1]:4001', null],
    ['[fe80::1%eth0]:4001', null],
    ['1.2.3.256:4001', null],
    ['ws://localhost', null],
  ];
  for (const [text, corrected] of cases) {
    test(`has ${corrected ?? 'no correction'}: ${text}`, () => {
      assert.throws(
        () => parseEndpoint(text),
        (error: unknown) => {
          assert.ok(error instanceof EndpointError);
          assert.equal(/; write (\S*)$/u.exec(error.message)?.[1] ?? null, corrected, error.message);
          return true;
        },
      );
      if (corrected !== null) parseEndpoint(corrected);
    });
  }

  test('says why a name is rejected', () => {
    assert.throws(() => parseEndpoint('relay.example.org:4001'), {
      message:
        '"relay.example.org:4001" has a name, which may change; use an IP address of this host, or tcp:4001 for all of them',
    });
  });

  test('says that a port is too large', () => {
    assert.throws(() => parseEndpoint('0.0.0.0:70000'), /"70000" is not a port/u);
  });
});

describe('formatting an endpoint', () => {
  test('gives the text that an operator would write', () => {
    assert.equal(formatEndpoint(tcp(4001)), 'tcp:4001');
    assert.equal(formatEndpoint(tcp(1, '::1', 5)), String.raw`tcp:1:interface=\:\:1:backlog=5`);
    assert.equal(formatEndpoint(unix('/run/a b', 0o660)), String.raw`unix:/run/a\ b:mode=660`);
    assert.equal(formatEndpoint(unix('/run/a,b')), String.raw`unix:/run/a\,b`);
    assert.equal(formatEndpoint(unix('/x', 0, 7)), 'unix:/x:mode=0:backlog=7');
    assert.equal(formatEndpoint(ssl(443, {}, 5)), `ssl:443:privateKey=${KEY}:backlog=5`);
    assert.equal(
      formatEndpoint(ssl(1, { certificatePath: '/c', chainPath: '/d' })),
      `ssl:1:privateKey=${KEY}:certKey=/c:extraCertChain=/d`,
    );
    assert.equal(formatEndpoint(systemd('INET', 0)), 'systemd:domain=INET:index=0');
    assert.equal(formatEndpoint(systemd('UNIX', 'a')), 'systemd:domain=UNIX:name=a');
  });

  const backlog = fc.option(fc.integer({ min: 1, max: 2 ** 31 - 1 }));
  const path = fc
    .string({
      unit: fc.oneof(
        fc.constantFrom(':', '=', '\\', ' ', ',', '\n', '\t', '\u00a0', '/', '"', 'mode', 'é', '😀'),
        fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }).filter((unit) => unit !== '\0'),
      ),
      minLength: 1,
      maxLength: 40,
    })
    .filter((text) => Buffer.byteLength(text) <= 107);
  const tls = fc.option(
    fc.record(
      { keyPath: path, certificatePath: path, chainPath: fc.option(path) },
      { noNullPrototype: true },
    ),
  );
  const endpoint = fc.oneof(
    fc.record(
      {
        kind: fc.constant('systemd' as const),
        domain: fc.constantFrom('INET' as const, 'INET6' as const),
        socket: fc.oneof(fc.nat({ max: 2 ** 31 - 4 }), path),
        tls,
      },
      { noNullPrototype: true },
    ),
    fc.record(
      {
        kind: fc.constant('tcp' as const),
        port: fc.integer({ min: 0, max: 65_535 }),
        interface: fc.option(fc.oneof(fc.ipV4(), fc.ipV6())),
        backlog,
        tls,
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

  test('gives text that parses to the same endpoint, alone and in a list', () => {
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

test('the socket family is TCP or unix', () => {
  assert.equal(socketFamily(ssl(443, {})), 'tcp');
  assert.equal(socketFamily(unix('/x')), 'unix');
  assert.equal(socketFamily(systemd('INET', 0)), 'tcp');
  assert.equal(socketFamily(systemd('INET6', 0)), 'tcp');
  assert.equal(socketFamily(systemd('UNIX', 0)), 'unix');
});

test('any text parses to endpoints or throws an EndpointError, and parsed endpoints survive formatting', () => {
  const part = fc.oneof(
    fc.constantFrom(
      'ssl',
      'systemd',
      'domain',
      'INET',
      'index',
      'name',
      'privateKey',
      'certKey',
      'sslmethod',
    ),
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
  const text = fc.array(part, { maxLength: 12 }).map((parts) => parts.join(''));
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

describe('parsing a host and a port', () => {
  for (const [text, host, port] of [
    ['10.0.0.7:4004', '10.0.0.7', 4004],
    ['[fd00::7]:65535', 'fd00::7', 65_535],
    ['[::ffff:10.0.0.7]:1', '::ffff:10.0.0.7', 1],
    ['relay-1.relays.svc.cluster.local:4005', 'relay-1.relays.svc.cluster.local', 4005],
    ['relay_2:4004', 'relay_2', 4004],
    ['R2D2.example.org.:4004', 'R2D2.example.org.', 4004],
    ['1password.example:1', '1password.example', 1],
    [`${'a'.repeat(253)}:1`, 'a'.repeat(253), 1],
  ] as const) {
    test(`accepts ${text}`, () => {
      assert.deepEqual(parseHostPort(text), { host, port });
      assert.equal(isHost(host), true);
    });
  }

  for (const text of [
    '',
    'relay',
    'relay:',
    ':4004',
    'relay:0',
    'relay:65536',
    'relay:-1',
    'relay:4004x',
    'relay:4004:4004',
    'fd00::7:4004',
    '[fd00::7]',
    '[relay]:4004',
    '[10.0.0.7]:4004',
    '[fe80::1%eth0]:4004',
    '10.0.0.256:4004',
    '10.0.0.07:4004',
    // The C library accepts these as IPv4 addresses.
    '10.7:4004',
    '2130706433:4004',
    '0x7f000001:4004',
    '127.0.0.0x1:4004',
    '0177.0.0.1:4004',
    'relay.1:4004',
    '-relay:4004',
    'relay-:4004',
    'relay..example:4004',
    'relay example:4004',
    'relay/x:4004',
    'user@relay:4004',
    'relé:4004',
    `${'a'.repeat(254)}:1`,
  ]) {
    test(`rejects ${JSON.stringify(text)}`, () => {
      assert.equal(parseHostPort(text), null);
    });
  }

  test('rejects long invalid text quickly', () => {
    const startedAt = performance.now();
    for (const text of ['a-'.repeat(50_000), 'a.'.repeat(50_000), `${'a'.repeat(100_000)}!`])
      assert.equal(parseHostPort(`${text}:1`), null);
    assert.ok(performance.now() - startedAt < 500);
  });
});
