import {
  EndpointError,
  formatEndpoint,
  parseEndpoint,
  parseEndpoints,
} from '../../../src/config/endpoint.ts';
import type { Endpoint } from '../../../src/config/endpoint.ts';
import { expectSame, many, pick } from '../target.ts';
import type { Choices, Target } from '../target.ts';
import { expectedEndpoint } from './endpoint-reference.ts';

const DICTIONARY: Choices<string> = [
  'tcp:',
  'ssl:',
  'unix:',
  'systemd:',
  'tcp:4001',
  'port=',
  'address=',
  'interface=',
  'backlog=',
  'mode=',
  'lockfile=',
  'privateKey=k',
  'certKey=c',
  'extraCertChain=',
  'sslmethod=',
  'TLSv1_2_METHOD',
  'dhParameters=',
  'domain=',
  'INET6',
  'UNIX',
  'index=',
  'name=',
  '127.0.0.1',
  '0.0.0.0',
  '\\:\\:1',
  '\\:\\:ffff\\:10.1.2.3',
  '65535',
  '65536',
  '660',
  '2147483647',
  '/run/relay.sock',
  ':',
  '=',
  '\\',
  ' ',
  '\\ ',
  ',',
  '\\,',
  '[::1]:',
  '[::]:4001',
  '\0',
  '\xc3\xa9',
];

/** All endpoints of a list, or null if the parser rejects it. Any other error is a finding. */
function read(text: string): Endpoint[] | null {
  try {
    return parseEndpoints(text);
  } catch (error) {
    if (error instanceof EndpointError) return null;
    throw error;
  }
}

export const endpoint: Target = {
  dictionary: DICTIONARY,

  make(random) {
    const address = (): string =>
      pick(random, ['127.0.0.1', '\\:\\:1', '\\:\\:', '1.2.3', '\\:\\:ffff\\:1.2.3.4', 'host']);
    const number = (): string =>
      pick(random, ['0', '1', '660', '777', '1000', '8', '2147483647', '2147483648']);
    const tls = (): string =>
      pick(random, [':privateKey=k', ':certKey=c', ':extraCertChain=d', ':sslmethod=TLS_METHOD']);
    const option = (): string =>
      pick(random, [
        `:interface=${address()}`,
        `:backlog=${number()}`,
        `:mode=${number()}`,
        ':lockfile=1',
        tls(),
      ]);
    const path = (): string =>
      pick(random, [
        '/run/a',
        'address=/run/b',
        '/a\\:b\\=c\\ d',
        `/${'x'.repeat(random.between(100, 110))}`,
      ]);
    const port = (): string => pick(random, ['0', '4001', '65535', '65536', 'port=1', 'x']);
    const one = (): string =>
      pick(random, [
        `tcp:${port()}`,
        `unix:${path()}`,
        `ssl:${port()}:privateKey=k${tls()}`,
        `systemd:domain=${pick(random, ['INET', 'INET6', 'UNIX', 'x'])}:${pick(random, ['index', 'name'])}=${number()}`,
        '4001',
        ':4001',
        `${pick(random, ['127.0.0.1', '0.0.0.0', '[::1]', '[::]', '[1.2.3.4]', 'host', '1.2.3'])}:${port()}`,
      ]) + many(random, 0, 2, option);
    return one() + many(random, 0, 2, () => pick(random, [' ', '\n', '\t  ', ',', ' ,']) + one());
  },

  check(input) {
    const text = input.toString('utf8');
    const endpoints = read(text);
    const expected = (text.match(/(?:\\.|[^\s,\\])+|\\$/gsu) ?? []).map(expectedEndpoint);
    expectSame(endpoints, expected.includes(null) ? null : expected, 'the meaning');
    if (endpoints === null) return;
    const printed = endpoints.map(formatEndpoint);
    expectSame(printed.map(parseEndpoint), endpoints, 'each endpoint after formatting');
    expectSame(read(printed.join(' \n')), endpoints, 'the list after formatting');
    expectSame(read(printed.join(',')), endpoints, 'the list with commas after formatting');
  },
};
