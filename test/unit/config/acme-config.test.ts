import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatEndpoint } from '../../../src/config/endpoint.ts';
import { formatConfigError } from '../../../src/config/environment.ts';
import { readRelayConfig } from '../../../src/config/relay-config.ts';
import type { RelayConfig } from '../../../src/config/relay-config.ts';
import { configIn, errorsIn } from './config-results.ts';

const ACME = {
  RELAY_ACME_DOMAIN: 'relay.example.org',
  RELAY_ACME_AGREE: 'true',
  RELAY_USAGE_DB: '/data/usage.sqlite',
};

type Environment = Readonly<Record<string, string>>;

function configOf(environment: Environment): RelayConfig {
  return configIn(readRelayConfig(environment, 1));
}

function errorsOf(environment: Environment): string[] {
  return errorsIn(readRelayConfig(environment, 1)).map(formatConfigError);
}

function rawEndpoints(environment: Environment): string[] {
  return configOf(environment).listen.raw.map(formatEndpoint);
}

describe('a certificate by ACME', () => {
  test("comes from Let's Encrypt by default, and is kept beside the usage database", () => {
    assert.deepEqual(configOf(ACME).acme, {
      domains: ['relay.example.org'],
      email: null,
      directoryUrl: 'https://acme-v02.api.letsencrypt.org/directory',
      statePath: '/data/acme',
    });
    assert.equal(configOf({}).acme, null);
  });

  test('may have several names, an address, and another CA and directory', () => {
    const config = configOf({
      RELAY_ACME_DOMAIN: 'Relay.example.org, b.example.org\tb.example.org',
      RELAY_ACME_AGREE: 'true',
      RELAY_ACME_EMAIL: 'operator@example.org',
      RELAY_ACME_DIRECTORY: 'https://ca.example.org/dir',
      RELAY_ACME_STATE: '/var/lib/acme',
    });
    assert.deepEqual(config.acme, {
      domains: ['relay.example.org', 'b.example.org'],
      email: 'operator@example.org',
      directoryUrl: 'https://ca.example.org/dir',
      statePath: '/var/lib/acme',
    });
  });

  test('needs agreement to the terms, which the error names', () => {
    const { RELAY_ACME_AGREE: _, ...others } = ACME;
    for (const environment of [others, { ...ACME, RELAY_ACME_AGREE: '' }]) {
      assert.match(
        errorsOf(environment).join('\n'),
        /^RELAY_ACME_AGREE="" .*terms of Let's Encrypt, https:\/\/letsencrypt\.org\/repository\/\. Accepted: true\.$/u,
      );
    }
    assert.match(errorsOf({ ...ACME, RELAY_ACME_AGREE: 'yes' }).join('\n'), /^RELAY_ACME_AGREE="yes"/u);
    const other = { ...others, RELAY_ACME_DIRECTORY: 'https://ca.example.org/dir' };
    assert.match(errorsOf(other).join('\n'), /https:\/\/ca\.example\.org\/dir names as termsOfService/u);
  });

  test('needs a directory that survives restarts', () => {
    const errors = errorsOf({ ...ACME, RELAY_USAGE_DB: '' });
    assert.match(errors.join('\n'), /^RELAY_ACME_STATE="" .*survive restarts/u);
  });

  for (const [name, value] of [
    ['a wildcard', '*.example.org'],
    ['an IPv4 address', '192.0.2.1'],
    ['an IPv6 address', '2001:db8::1'],
    ['a name without a dot', 'localhost'],
    ['a URL', 'https://relay.example.org'],
    ['an empty label', 'relay..example.org'],
    ['a hyphen at the end', 'relay-.example.org'],
    ['a name that is too long', `${'a'.repeat(64)}.example.org`],
    ['letters that are not ASCII', 'größe.example.org'],
    ['no name', ','],
    ['too many names', Array.from({ length: 101 }, (_, at) => `n${at}.example.org`).join(' ')],
  ] as const) {
    test(`rejects ${name}`, () => {
      assert.match(errorsOf({ ...ACME, RELAY_ACME_DOMAIN: value }).join('\n'), /^RELAY_ACME_DOMAIN=/u);
    });
  }

  for (const value of [
    'http://ca.example.org/dir',
    'ca.example.org',
    'https://user:pass@ca.example.org/dir',
    '',
  ]) {
    test(`rejects "${value}" as a CA`, () => {
      assert.match(errorsOf({ ...ACME, RELAY_ACME_DIRECTORY: value }).join('\n'), /^RELAY_ACME_DIRECTORY=/u);
    });
  }

  test('rejects an address that is not one', () => {
    for (const value of ['operator', 'a@b,c@d', 'mailto:a@b?x', 'a b@c'])
      assert.match(errorsOf({ ...ACME, RELAY_ACME_EMAIL: value }).join('\n'), /^RELAY_ACME_EMAIL=/u);
  });

  test('warns about settings without effect', () => {
    const result = readRelayConfig({ RELAY_ACME_AGREE: 'true', RELAY_ACME_EMAIL: 'a@b' }, 1);
    assert.deepEqual(
      result.warnings.map(({ event, message }) => [event, message.split(' ', 1)[0]]),
      [
        ['setting_without_effect', 'RELAY_ACME_EMAIL'],
        ['setting_without_effect', 'RELAY_ACME_AGREE'],
      ],
    );
  });
});

describe('the listener for a certificate by ACME', () => {
  test('is added on port 443', () => {
    assert.deepEqual(rawEndpoints(ACME), ['tcp:4001', 'ssl:443']);
    assert.deepEqual(rawEndpoints({ ...ACME, RELAY_LISTEN: '' }), ['ssl:443']);
  });

  test('is not added if an endpoint uses the certificate', () => {
    const listen = 'ssl:8443:interface=127.0.0.1';
    assert.deepEqual(rawEndpoints({ ...ACME, RELAY_LISTEN: listen }), [listen]);
    assert.deepEqual(rawEndpoints({ ...ACME, RELAY_WEBSOCKET_LISTEN: 'ssl:443' }), ['tcp:4001']);
    const inherited = 'systemd:domain=INET:name=https:tls=acme';
    assert.deepEqual(rawEndpoints({ ...ACME, RELAY_LISTEN: inherited }), [inherited]);
  });

  test('may not take a port that another endpoint has', () => {
    for (const listen of ['tcp:443', 'ssl:443:privateKey=/k']) {
      const [error = '', ...others] = errorsOf({ ...ACME, RELAY_LISTEN: listen });
      assert.match(error, /^RELAY_ACME_DOMAIN=.*has port 443.*Accepted: ssl:443 in RELAY_LISTEN, without/u);
      assert.deepEqual(others, []);
    }
  });

  test('needs a domain', () => {
    for (const [variable, value] of [
      ['RELAY_LISTEN', 'ssl:443'],
      ['RELAY_WEBSOCKET_LISTEN', 'systemd:domain=INET:index=0:tls=acme'],
    ] as const) {
      const [error = '', ...others] = errorsOf({ [variable]: value });
      assert.match(
        error,
        new RegExp(`^${variable}=.*names no key.*RELAY_ACME_DOMAIN for a certificate`, 'u'),
      );
      assert.deepEqual(others, []);
    }
  });

  test('is only for clients', () => {
    const errors = errorsOf({ ...ACME, RELAY_STATUS_LISTEN: 'ssl:4003' });
    assert.match(errors.join('\n'), /^RELAY_STATUS_LISTEN=.*TLS is not supported here/u);
  });
});
