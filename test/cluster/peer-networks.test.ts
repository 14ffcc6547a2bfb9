import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { LookupAddress } from 'node:dns';
import { PeerAddressError, PeerNetworks } from '../../src/cluster/link-client.ts';
import { parseCidrs } from '../../src/config/trusted-proxies.ts';

const ANY = new PeerNetworks([], '10.0.0.1');
const ON_LOOPBACK = new PeerNetworks([], '127.0.0.1');
const LISTED = new PeerNetworks(parseCidrs('10.0.0.0/24 fd00::/64'), '10.0.0.1');

/** All addresses of a name, looked up as `net.connect` does with `all`. */
function resolved(networks: PeerNetworks, name: string): Promise<LookupAddress[]> {
  return new Promise((resolve, reject) => {
    networks.lookup(name, { all: true }, (error, addresses) => {
      if (error === null && Array.isArray(addresses)) resolve(addresses);
      else reject(error ?? new Error('no list'));
    });
  });
}

/** One address of a name, looked up as `net.connect` does without `all`. */
function firstOf(networks: PeerNetworks, name: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    networks.lookup(name, {}, (error, address) => {
      if (error === null) resolve(address);
      else reject(error);
    });
  });
}

describe('networks of peers', () => {
  test('are by default all in which a relay can be, without loopback and link-local addresses', () => {
    for (const address of ['10.0.0.7', '192.0.2.1', '8.8.8.8', 'fd00::7', '2001:db8::1', '::ffff:10.0.0.7'])
      assert.equal(ANY.allowsOutgoing(address), true, address);
    for (const address of [
      '0.0.0.0',
      '0.1.2.3',
      '127.0.0.1',
      '127.9.9.9',
      '169.254.169.254',
      '224.0.0.1',
      '255.255.255.255',
      '::',
      '::1',
      '::ffff:127.0.0.1',
      '::ffff:169.254.169.254',
      'fe80::1',
      'fe80::1%eth0',
      'ff02::1',
    ])
      assert.equal(ANY.allowsOutgoing(address), false, address);
  });

  test('include the loopback only if this relay is on the loopback too', () => {
    for (const host of ['127.0.0.1', '::1', 'localhost']) {
      const networks = new PeerNetworks([], host);
      assert.equal(networks.allowsOutgoing('127.0.0.2'), true, host);
      assert.equal(networks.allowsOutgoing('::1'), true, host);
      assert.equal(networks.allowsOutgoing('169.254.169.254'), false, host);
    }
  });

  test('are only the configured ones, if there are any', () => {
    for (const address of ['10.0.0.7', '::ffff:10.0.0.7', 'fd00::7']) {
      assert.equal(LISTED.allowsOutgoing(address), true, address);
      assert.equal(LISTED.allowsIncoming(address), true, address);
    }
    for (const address of ['10.0.1.7', '127.0.0.1', 'fd00:1::7', '', 'relay']) {
      assert.equal(LISTED.allowsOutgoing(address), false, address);
      assert.equal(LISTED.allowsIncoming(address), false, address);
    }
    const linkLocal = new PeerNetworks(parseCidrs('169.254.0.0/16'), '10.0.0.1');
    assert.equal(linkLocal.allowsOutgoing('169.254.1.1'), true);
  });

  test('are not restricted for incoming connections by default', () => {
    for (const address of ['10.0.0.7', '127.0.0.1', '::1', ''])
      assert.equal(ANY.allowsIncoming(address), true);
  });

  test('are checked for all addresses of a host name', async () => {
    const found = await resolved(ON_LOOPBACK, 'localhost');
    assert.ok(found.some(({ address }) => address === '127.0.0.1' || address === '::1'));
    await assert.rejects(resolved(ANY, 'localhost'), PeerAddressError);
    const loopback4 = new PeerNetworks(parseCidrs('127.0.0.0/8'), '10.0.0.1');
    assert.equal(await firstOf(loopback4, 'localhost'), '127.0.0.1');
    await assert.rejects(resolved(ANY, 'x'.repeat(64)), { code: 'ENOTFOUND' });
  });
});
