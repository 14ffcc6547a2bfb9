import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  NetworkNamespaces,
  skipWithoutNetworkNamespaces,
} from '../system/cluster/network/network-namespaces.ts';
import { makeIdentity } from '../support/certificates.ts';
import { Program } from '../support/programs.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { scratch } from '../support/scratch.ts';

const CLIENTS = join(import.meta.dirname, 'support', 'outage-clients.ts');

const [RAW, WEBSOCKET, TLS] = [4001, 4002, 4003];

/**
 * Silence before the outage: keepalive with one second between its ten probes would close connections during
 * it.
 */
const SILENCE_MS = 20_000;

/** Shortly before the next TCP retransmission, which is 25 s after a packet was first sent. */
const OUTAGE_MS = 24_000;

const CHECKED_WITHIN_MS = 90_000;

test('a network outage closes no client', { skip: skipWithoutNetworkNamespaces() }, async (context) => {
  const directory = await scratch(context);
  const { key, certificate } = makeIdentity();
  await writeFile(join(directory, 'key.pem'), key);
  await writeFile(join(directory, 'certificate.pem'), certificate);
  using network = new NetworkNamespaces(['relay', 'clients']);
  const files = `privateKey=${directory}/key.pem:certKey=${directory}/certificate.pem`;
  await using relay = await RelayProcess.start(
    {
      RELAY_LISTEN: `tcp:${RAW}:interface=0.0.0.0 ssl:${TLS}:interface=0.0.0.0:${files}`,
      RELAY_WEBSOCKET_LISTEN: `tcp:${WEBSOCKET}:interface=0.0.0.0`,
      RELAY_STATUS_LISTEN: '',
      RELAY_DRAIN_TIMEOUT: '0s',
    },
    network.commandPrefix('relay'),
  );
  const address = network.addressOf('relay');
  await using clients = new Program([
    ...network.commandPrefix('clients'),
    process.execPath,
    CLIENTS,
    ...[address, RAW, WEBSOCKET, TLS].map(String),
  ]);
  await clients.waitForOutput(/silent\n/u);
  await sleep(SILENCE_MS);
  clients.write('send\n');
  await clients.waitForOutput(/sending\n/u);
  network.partition('relay', 'clients');
  await sleep(OUTAGE_MS);
  network.heal();
  clients.write('check\n');
  const [, results = ''] = await clients.waitForOutput(/^(\{.*\})\n/mu, CHECKED_WITHIN_MS);
  const all = { waiting: 'ok', idle: 'ok', paused: 'ok', sending: 'ok' };
  assert.deepEqual(JSON.parse(results), { raw: all, websocket: all, tls: all });
  relay.kill('SIGKILL');
});
