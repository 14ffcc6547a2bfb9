import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { pino } from 'pino';
import { VERSION } from '../../../src/process/version.ts';
import type { RelayStatus } from '../../../src/status/relay-status.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { OpenRelay } from '../../support/open-relay.ts';
import { scratch } from '../../support/scratch.ts';

const DAY_MS = 86_400_000;

const BUSY = 'busy\n';

/** Connects a client that names a token of its own, and returns its reply if it is rejected. */
async function rejectedReply(relay: OpenRelay, reply = BUSY): Promise<string> {
  const client = await relay.connect('tcp');
  await client.send(handshake(newToken(), SIDE_A));
  return String(await client.until(reply.length));
}

/** Connects a client that waits, and resolves once the relay knows. */
async function waitingClient(relay: OpenRelay): Promise<void> {
  const { waiting } = await relay.status();
  const client = await relay.connect('tcp');
  await client.send(handshake(newToken(), SIDE_A));
  await relay.statusWhere((status) => status.waiting === waiting + 1);
}

/** The status codes of the health checks. */
async function healthOf(relay: OpenRelay): Promise<Record<string, number>> {
  const codes: Record<string, number> = {};
  for (const word of ['relay', 'transfer'] as const) codes[word] = (await relay.check(word)).status;
  for (const path of ['livez', 'readyz', 'healthz'])
    codes[path] = (await fetch(`${relay.statusUrl}/${path}`)).status;
  return codes;
}

const HEALTHY = { relay: 200, transfer: 200, livez: 200, readyz: 200, healthz: 200 };

/** Clients are rejected, but the relay must neither be restarted nor lose its place behind a load balancer. */
const REJECTING = { ...HEALTHY, transfer: 503 };

describe('the state of a relay', () => {
  test('is serving, with its version, host and limits', async () => {
    await using relay = await OpenRelay.start({ RELAY_MAX_CONNECTIONS: '10', RELAY_MAX_WAITING: 'auto' });
    const { state, version, host, refusing, limits, warnings, certificates, quota, usage } =
      await relay.status();
    assert.deepEqual([state, version, host, refusing], ['serving', VERSION, hostname(), null]);
    assert.deepEqual(limits, { connections: 10, waiting: 5 });
    assert.deepEqual([warnings, certificates, quota], [[], [], null]);
    assert.deepEqual(usage, { queued: 0, dropped: 0, problem: null });
    assert.deepEqual(await healthOf(relay), HEALTHY);
  });

  test('is refusing when all connections are in use, and the transfer check says so', async () => {
    const lines: Record<string, unknown>[] = [];
    const log = pino({ base: null, timestamp: false }, { write: (line) => lines.push(JSON.parse(line)) });
    await using relay = await OpenRelay.start({ RELAY_MAX_CONNECTIONS: '2', RELAY_MAX_WAITING: '' }, log);
    await waitingClient(relay);
    await waitingClient(relay);
    assert.equal((await relay.status()).state, 'serving');
    assert.deepEqual(await healthOf(relay), HEALTHY);
    const before = new Date().toISOString();
    assert.equal(await rejectedReply(relay), BUSY);
    const { refusing, refused_last_hour: lastHour } = await relay.statusWhere(
      ({ state }) => state === 'refusing',
    );
    assert.deepEqual([refusing?.reason, refusing?.variable], ['connections', 'RELAY_MAX_CONNECTIONS']);
    assert.ok(refusing !== null && refusing.since >= before && refusing.last === refusing.since);
    assert.deepEqual(lastHour, { connections: 1, waiting: 0, address: 0, quota: 0, shutdown: 0 });
    assert.deepEqual(await healthOf(relay), REJECTING);
    assert.equal(
      (await relay.check('transfer')).report.problem,
      'clients are rejected: connection limit reached (RELAY_MAX_CONNECTIONS=2)',
    );
    assert.equal(await rejectedReply(relay), BUSY);
    const later = await relay.statusWhere(({ refused }) => refused.connections === 2);
    assert.equal(later.refusing?.since, refusing.since);
    assert.ok(later.refusing.last >= refusing.last);
    await relay.relay.close();
    assert.deepEqual(
      lines.filter(({ event }) => event === 'clients_rejected').map(({ count, limit }) => [count, limit]),
      [
        [1, 2],
        [1, 2],
      ],
    );
  });

  test('names the limit with the most rejections', async () => {
    await using relay = await OpenRelay.start({ RELAY_MAX_CONNECTIONS: '3', RELAY_MAX_WAITING: '1' });
    await waitingClient(relay);
    assert.equal(await rejectedReply(relay), BUSY);
    const first = await relay.statusWhere(({ refusing }) => refusing !== null);
    assert.deepEqual([first.refusing?.reason, first.refusing?.variable], ['waiting', 'RELAY_MAX_WAITING']);
    await relay.statusWhere(({ connections }) => connections === 1);
    const silent = [await relay.connect('tcp'), await relay.connect('tcp')];
    await relay.statusWhere(({ connections }) => connections === 3);
    for (let client = 0; client < 2; client += 1) assert.equal(await rejectedReply(relay), BUSY);
    await relay.statusWhere(({ refusing }) => refusing?.reason === 'connections');
    assert.equal(
      (await relay.check('transfer')).report.problem,
      'clients are rejected: connection limit reached (RELAY_MAX_CONNECTIONS=3)',
    );
    for (const client of silent) client.destroy();
    await relay.statusWhere(({ connections }) => connections === 1);
    for (let client = 0; client < 2; client += 1) assert.equal(await rejectedReply(relay), BUSY);
    await relay.statusWhere(({ refusing }) => refusing?.reason === 'waiting');
  });

  const addressLimits = [
    ['RELAY_MAX_CONNECTIONS_PER_ADDRESS', '1'],
    ['RELAY_NEW_CONNECTIONS_PER_ADDRESS', '1/h'],
  ] as const;
  for (const [variable, value] of addressLimits) {
    test(`is refusing because of ${variable}, which the transfer check ignores`, async () => {
      await using relay = await OpenRelay.start({ [variable]: value });
      await waitingClient(relay);
      assert.equal(await rejectedReply(relay), BUSY);
      const { refusing } = await relay.statusWhere(({ state }) => state === 'refusing');
      assert.deepEqual([refusing?.reason, refusing?.variable], ['address', variable]);
      assert.deepEqual(await healthOf(relay), HEALTHY);
    });
  }

  test('is over_quota when the quota is used up', async (context) => {
    await using relay = await OpenRelay.start({
      RELAY_QUOTA: '1kB/day',
      RELAY_QUOTA_STATE: join(await scratch(context), 'quota.json'),
    });
    const { quota } = await relay.status();
    assert.deepEqual([quota?.used_bytes, quota?.limit_bytes, quota?.exhausted], [0, 1000, false]);
    assert.ok(quota !== null && quota.counts_since >= quota.period_started);
    assert.equal(Date.parse(quota.resets) - Date.parse(quota.period_started), DAY_MS);
    const token = newToken();
    const [a, b] = [await relay.connect('tcp'), await relay.connect('tcp')];
    await a.send(handshake(token, SIDE_A));
    await b.send(handshake(token, SIDE_B));
    await Promise.all([a.until(3), b.until(3)]);
    await a.send(Buffer.alloc(1000));
    const full = await relay.statusWhere(({ state }) => state === 'over_quota');
    assert.deepEqual([full.quota?.exhausted, full.refusing, full.warnings], [true, null, []]);
    // Also before the first client is rejected.
    assert.deepEqual(await healthOf(relay), REJECTING);
    assert.equal(
      (await relay.check('transfer')).report.problem,
      'clients are rejected: quota used up (RELAY_QUOTA=1000)',
    );
    assert.equal(await rejectedReply(relay, 'over quota\n'), 'over quota\n');
    await relay.statusWhere(({ refused_last_hour: lastHour }) => lastHour.quota === 1);
  });
});

describe('the warnings of a relay', () => {
  const eventsOf = ({ warnings }: RelayStatus): string[] => warnings.map(({ event }) => event);

  test('have those of the configuration', async () => {
    await using relay = await OpenRelay.start({ RELAY_QUTOA: '5TB/month' });
    const { warnings } = await relay.status();
    assert.deepEqual(eventsOf(await relay.status()), ['unknown_variable']);
    assert.match(warnings[0]?.message ?? '', /^RELAY_QUTOA is unknown/u);
  });

  const certificates = [
    ['valid for a month', 30, []],
    ['that expires in ten days', 10, ['certificate_expires_soon']],
    ['that has expired', -1, ['certificate_expired']],
  ] as const;
  for (const [what, days, events] of certificates) {
    test(`about a certificate ${what}: ${events.join() || 'none'}`, async (context) => {
      const path = join(await scratch(context), 'identity.pem');
      const notAfter = new Date(Date.now() + days * DAY_MS);
      const { key, certificate } = makeIdentity('localhost', {
        notBefore: new Date(Date.now() - 80 * DAY_MS),
        notAfter,
      });
      await writeFile(path, key + certificate);
      await using relay = await OpenRelay.start({
        RELAY_LISTEN: `ssl:0:interface=127.0.0.1:privateKey=${path}`,
      });
      const status = await relay.status();
      const [endpoint] = relay.endpoints.raw;
      assert.ok(endpoint?.kind === 'tcp');
      const [listed] = status.certificates;
      assert.deepEqual(
        [status.certificates.length, listed?.listener, listed?.expired],
        [1, `tcp 127.0.0.1:${endpoint.port}`, days < 0],
      );
      assert.equal(Date.parse(listed?.expires ?? ''), Math.floor(notAfter.getTime() / 1000) * 1000);
      assert.deepEqual(eventsOf(status), events);
    });
  }

  test('end when a damaged certificate has been replaced', async (context) => {
    const path = join(await scratch(context), 'identity.pem');
    const { key, certificate } = makeIdentity();
    await writeFile(path, key + certificate);
    await using relay = await OpenRelay.start({
      RELAY_LISTEN: `ssl:0:interface=127.0.0.1:privateKey=${path}`,
    });
    await writeFile(path, 'damaged');
    await relay.relay.reload();
    const damaged = await relay.status();
    assert.deepEqual(eventsOf(damaged), ['certificate_reload_failed']);
    assert.match(damaged.certificates[0]?.problem ?? '', /is not in PEM format/u);
    await writeFile(path, key + certificate);
    await relay.relay.reload();
    assert.deepEqual(eventsOf(await relay.status()), []);
  });

  test('have the usage database as long as it is not written', async (context) => {
    const directory = await scratch(context);
    const path = join(directory, 'usage.sqlite');
    await using relay = await OpenRelay.start({ RELAY_USAGE_DB: path });
    assert.deepEqual(eventsOf(await relay.status()), []);
    const { default: Database } = await import('better-sqlite3');
    const writer = new Database(path);
    context.after(() => writer.close());
    writer.exec('BEGIN IMMEDIATE');
    await waitingClient(relay);
    const blocked = await relay.statusWhere(({ usage }) => usage.problem !== null);
    assert.deepEqual(eventsOf(blocked), ['usage_database_write_failed']);
    assert.match(
      blocked.usage.problem ?? '',
      /^the usage database can't be written, .*another program keeps the database locked$/u,
    );
    writer.exec('ROLLBACK');
    const written = await relay.statusWhere(({ usage }) => usage.problem === null);
    assert.deepEqual(eventsOf(written), []);
  });
});
