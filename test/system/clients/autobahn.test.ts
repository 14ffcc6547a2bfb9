import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { TestRelay } from '../../support/test-relay.ts';
import type { TestRelayOptions } from '../../support/test-relay.ts';
import { Program } from '../../support/programs.ts';

const CLIENT = join(import.meta.dirname, 'autobahn-client.py');

/** Debian's own Python, because another one lacks Debian's packages. */
const PYTHON = '/usr/bin/python3';

const SIZE = 5_000_000;

/** Much longer than a transfer takes on a busy machine: this client masks in Python. */
const TRANSFER_MS = 60_000;

const skip =
  spawnSync(PYTHON, ['-c', 'import autobahn.twisted.websocket']).status === 0
    ? false
    : 'no autobahn: install the Debian package python3-autobahn';

/** The report that a client prints at its end. */
interface Report {
  /** SHA-256, in hex. */
  readonly sent: string;
  readonly received: string;
  readonly pings: number;
  readonly pongs: number;
  /** Bytes of the longest received message. */
  readonly longest: number;
  readonly wasClean: boolean;
  readonly code: number;
  readonly reason: string | null;
}

function isReport(value: unknown): value is Report {
  return (
    typeof value === 'object' &&
    value !== null &&
    ['sent', 'received', 'code', 'wasClean', 'longest', 'pings', 'pongs', 'reason'].every(
      (key) => key in value,
    )
  );
}

async function reportOf(client: Program): Promise<Report> {
  await client.succeeds(TRANSFER_MS);
  const report: unknown = JSON.parse(client.stdout);
  assert.ok(isReport(report), client.stdout);
  return report;
}

const BACKENDS: Readonly<Record<string, TestRelayOptions>> = {
  'the shared buffer': {},
  'standard streams': { standardStreams: true },
};

for (const [name, options] of Object.entries(BACKENDS)) {
  describe(`Autobahn clients over ${name}`, { skip }, () => {
    let relay: TestRelay;
    before(async () => {
      relay = await TestRelay.open(options);
    });
    after(() => relay.close());

    function client(path: string, line: string, seed: number): Program {
      const url = `ws://127.0.0.1:${relay.websocketPort}${path}`;
      return new Program([PYTHON, CLIENT, url, line, `${seed}`, `${SIZE}`, `${SIZE}`]);
    }

    function checkReport(report: Report): void {
      assert.equal(report.wasClean, true, report.reason ?? '');
      assert.equal(report.code, 1000);
      assert.ok(report.longest <= 32_768, `a message of ${report.longest} bytes`);
      // The first ping is answered at once. Later pings may arrive while the client does not keep up.
      assert.ok(
        report.pings > 5 && report.pongs > 0,
        `${report.pongs} of ${report.pings} pings were answered`,
      );
    }

    test('send each other 5 MB, in fragments and with pings between them', async () => {
      const token = newToken();
      await using a = client('/', handshake(token, SIDE_A), 1);
      await using b = client('/v1', handshake(token, SIDE_B).trimEnd(), 2);
      const reports = await Promise.all([reportOf(a), reportOf(b)]);
      for (const report of reports) checkReport(report);
      const [ofA, ofB] = reports;
      assert.equal(ofA.received, ofB.sent);
      assert.equal(ofB.received, ofA.sent);
      assert.notEqual(ofA.sent, ofB.sent);
      const summary = (await relay.waitForRecords(1)).at(-1);
      assert.equal(summary?.mood, 'happy');
      assert.equal(summary.totalBytes, 2 * SIZE);
    });

    test('send 5 MB to a raw client and receive 5 MB from it', async () => {
      const token = newToken();
      const raw = await relay.connect('tcp');
      await raw.send(handshake(token, SIDE_A));
      await using autobahn = client('/relay', handshake(token, SIDE_B), 3);
      await raw.until(3);
      const bytes = randomBytesOf(50, SIZE);
      const [report] = await Promise.all([reportOf(autobahn), raw.sendAll(bytes, 70_001)]);
      checkReport(report);
      assert.deepEqual(await raw.closed, { reset: false, code: null });
      const received = raw.received.subarray(3);
      assert.equal(received.length, SIZE);
      assert.equal(createHash('sha256').update(received).digest('hex'), report.sent);
      assert.equal(report.received, createHash('sha256').update(bytes).digest('hex'));
    });
  });
}
