import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { CertificateDirectory } from '../support/certificate-directory.ts';
import { makeIdentity } from '../support/certificates.ts';
import type { IdentityOptions } from '../support/certificates.ts';
import { MemoryCgroup, skipWithoutCgroups } from '../support/memory-cgroup.ts';
import { scrape } from '../support/metrics.ts';
import { Program } from '../support/programs.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { Bystander, reportAttack } from './support/bystander.ts';

const ATTACKER = join(import.meta.dirname, 'support', 'tls-attacker.ts');

/**
 * Far above the stall of a bystander, and far below its stall before handshakes and small records were
 * scheduled.
 */
const LONGEST_STALL_MS = 400;

const MIB = 2 ** 20;

/** Memory of the container: 128 MiB for the relay itself, 8 MiB of buffers, and the rest for connections. */
const LIMIT_BYTES = 192 * MIB;

/** Time for all stalled pairs to connect on a busy machine, in milliseconds. */
const OPENING_TIMEOUT_MS = 60_000;

async function startRelay(
  context: TestContext,
  identity: IdentityOptions = {},
  settings: Readonly<Record<string, string>> = {},
  prefix: readonly string[] = [],
): Promise<RelayProcess> {
  const { files } = await CertificateDirectory.open(context, makeIdentity('localhost', identity));
  const listen = `ssl:0:interface=127.0.0.1:privateKey=${files.keyPath}:certKey=${files.certificatePath}`;
  return RelayProcess.start({ RELAY_LISTEN: listen, ...settings }, prefix);
}

function attackBy(attack: string, relay: RelayProcess, count: number, seconds: number): Program {
  const numbers = [relay.port('raw'), count, seconds].map(String);
  return new Program([process.execPath, ATTACKER, attack, ...numbers]);
}

describe('hostile TLS clients', () => {
  for (const pairs of [20, 200]) {
    test(`that send records of one byte in ${pairs} pairs do not stall others`, async (context) => {
      await using relay = await startRelay(context);
      await using bystander = await Bystander.start({ port: relay.port('raw'), pid: relay.pid });
      const idle = await bystander.measure(1000);
      await using attack = attackBy('one-byte-records', relay, pairs, 4);
      await attack.waitForOutput(/ready\n/u);
      const during = await bystander.measureWhile(() => attack.waitForOutput(/done \d+\n/u));
      reportAttack(context, `TLS records of one byte, ${pairs} pairs`, idle, during);
      assert.ok(during.stallMs < LONGEST_STALL_MS, `${during.stallMs} ms`);
      await bystander.finish();
      await relay.stop();
    });
  }

  test('that flood ClientHellos do not lock out others, even if a handshake takes several milliseconds', async (context) => {
    await using relay = await startRelay(context, { type: 'rsa', bits: 4096 });
    await using bystander = await Bystander.start({ port: relay.port('raw'), pid: relay.pid, tls: true });
    const idle = await bystander.measure(1000);
    await using attack = attackBy('client-hellos', relay, 600, 6);
    await attack.waitForOutput(/ready\n/u);
    const during = await bystander.measureWhile(() => attack.waitForOutput(/done \d+\n/u));
    reportAttack(context, '600 ClientHellos/s, RSA 4096', idle, during);
    assert.ok(during.stallMs < LONGEST_STALL_MS, `${during.stallMs} ms`);
    assert.ok(during.newPairStallMs < 2000, `${during.newPairStallMs} ms`);
    assert.equal(during.newPairsFailed, 0);
    await bystander.finish();
    await relay.stop();
  });

  test(
    'that all stall fit into the memory of the container',
    { skip: skipWithoutCgroups() },
    async (context) => {
      await using cgroup = await MemoryCgroup.make(LIMIT_BYTES);
      const bufferBytes = 8 * MIB;
      await using relay = await startRelay(context, {}, { RELAY_BUFFER_MEMORY: '8MiB' }, cgroup.prefix);
      const [, limit] = await relay.waitForLog(/"max_connections":(\d+).*"limited_by":"memory"/u);
      const connections = Number(limit);
      const pairs = Math.floor(connections / 2);
      await using attack = attackBy('stalled-pairs', relay, pairs, 1);
      await attack.waitForOutput(/ready\n/u, OPENING_TIMEOUT_MS);
      const figures = await scrape(`http://127.0.0.1:${relay.port('status')}`);
      const held = figures.get('transit_relay_buffered_bytes') ?? 0;
      context.diagnostic(
        `ATTACK | ${pairs} stalled TLS pairs | held MiB ${(held / MIB).toFixed(1)} | peak MiB ${(cgroup.peakBytes / MIB).toFixed(0)} of ${LIMIT_BYTES / MIB}`,
      );
      assert.equal(cgroup.oomKills, 0, 'the relay was killed by the OOM killer');
      assert.equal(figures.get('transit_relay_connections_open'), 2 * pairs);
      assert.ok(!relay.log.includes('falls back to standard streams'), relay.log);
      assert.ok(held > 0, 'buffered bytes of TLS clients are counted');
      // The smallest read for each direction, in addition to the budget.
      assert.ok(held <= bufferBytes + 2 * pairs * 20 * 1024, `${held} bytes are buffered`);
      await attack.waitForOutput(/done \d+\n/u);
      await relay.stop();
    },
  );
});
