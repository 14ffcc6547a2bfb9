import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { TestClient } from '../../support/test-client.ts';

type Settings = Readonly<Record<string, string>>;

async function client(relay: RelayProcess): Promise<TestClient> {
  return TestClient.connect('tcp', { tcpPort: relay.port('raw'), unixPath: '', websocketPort: 0 });
}

/** Connects a pair and transfers that many bytes. The pair stays open. */
async function pairThatMoved(relay: RelayProcess, bytes: number): Promise<readonly TestClient[]> {
  const token = newToken();
  const pair = [await client(relay), await client(relay)] as const;
  await pair[0].send(handshake(token, SIDE_A));
  await pair[1].send(handshake(token, SIDE_B));
  for (const one of pair) assert.equal((await one.until(3)).toString(), 'ok\n');
  await pair[0].sendAll(randomBytesOf(1, bytes), 50_000);
  await pair[1].until(bytes + 3);
  return pair;
}

/** The reply to a new client, which is closed. */
async function replyTo(relay: RelayProcess): Promise<string> {
  const one = await client(relay);
  await one.send(handshake(newToken(), SIDE_A));
  await one.closed;
  return one.received.toString();
}

interface QuotaOfStatus {
  readonly used_bytes: number;
  readonly limit_bytes: number;
  readonly resets: string;
}

async function quotaOf(relay: RelayProcess): Promise<QuotaOfStatus> {
  const response = await fetch(`http://127.0.0.1:${relay.port('status')}/status.json`);
  const status: unknown = await response.json();
  assert.ok(typeof status === 'object' && status !== null && 'quota' in status && isQuota(status.quota));
  return status.quota;
}

function isQuota(value: unknown): value is QuotaOfStatus {
  return typeof value === 'object' && value !== null && 'used_bytes' in value && 'resets' in value;
}

async function settingsOf(context: TestContext, more: Settings = {}): Promise<Settings> {
  const path = join(await scratch(context), 'quota.json');
  return { RELAY_QUOTA: '1MB/month', RELAY_QUOTA_STATE: path, ...more };
}

/** The bytes in the state file. */
async function savedBytes(settings: Settings): Promise<number> {
  const saved: unknown = JSON.parse(await readFile(settings['RELAY_QUOTA_STATE'] ?? '', 'utf8'));
  assert.ok(typeof saved === 'object' && saved !== null && 'relayedBytes' in saved);
  assert.ok(typeof saved.relayedBytes === 'number');
  return saved.relayedBytes;
}

describe('a quota', () => {
  test('logs a warning, is exhausted, survives a kill, lets running pairs end, and rejects new clients', async (context) => {
    const settings = await settingsOf(context);
    {
      await using relay = await RelayProcess.start(settings);
      const waiting = await client(relay);
      await waiting.send(handshake(newToken(), SIDE_A));
      const pair = await pairThatMoved(relay, 820_000);
      await relay.waitForLog(/"percent":80,"used_bytes":820000,.*"msg":"quota almost exhausted"/u);
      await pair[0]?.sendAll(randomBytesOf(2, 190_000), 50_000);
      await relay.waitForLog(
        /"used_bytes":1010000,.*"msg":"quota exhausted; rejecting clients until it is reset"/u,
      );
      assert.equal((await waiting.until(11)).toString(), 'over quota\n');
      assert.equal(await replyTo(relay), 'over quota\n');
      // The running pair continues.
      await pair[1]?.send('more');
      await pair[0]?.until(7);
      while ((await savedBytes(settings)) < 1_010_004) await sleep(20);
      assert.equal((await quotaOf(relay)).used_bytes, 1_010_004);
      relay.kill('SIGKILL');
      await assert.rejects(relay.ended());
    }
    await using again = await RelayProcess.start(settings);
    const { used_bytes: used, limit_bytes: limit } = await quotaOf(again);
    assert.deepEqual([used, limit], [1_010_004, 1_000_000]);
    assert.equal(await replyTo(again), 'over quota\n');
  });

  test('counts incoming and outgoing bytes with in+out', async (context) => {
    const settings = await settingsOf(context, { RELAY_QUOTA_COUNTS: 'in+out', RELAY_QUOTA_GRACE: '100ms' });
    await using relay = await RelayProcess.start(settings);
    const pair = await pairThatMoved(relay, 500_000);
    await relay.waitForLog(/"used_bytes":1000000,.*"msg":"quota exhausted/u);
    // The grace period ends soon, and the pair is closed.
    for (const one of pair) await one.closed;
    await relay.stop();
    assert.equal(await savedBytes(settings), 500_000);
  });

  test('loses nothing in a clean stop, and is reset in the next period', async (context) => {
    const settings = await settingsOf(context);
    const path = settings['RELAY_QUOTA_STATE'] ?? '';
    {
      await using relay = await RelayProcess.start(settings);
      const pair = await pairThatMoved(relay, 30_000);
      pair[0]?.end();
      await relay.stop();
    }
    {
      await using relay = await RelayProcess.start(settings);
      assert.equal((await quotaOf(relay)).used_bytes, 30_000);
      await relay.stop();
    }
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.replace(/\d{4}-\d\d-\d\d/u, '2020-01-31'));
    await using relay = await RelayProcess.start(settings);
    const { used_bytes: used, resets } = await quotaOf(relay);
    assert.equal(used, 0);
    assert.match(resets, /-01T00:00:00\.000Z$/u);
  });

  test('with an invalid state file prevents the start, with an error message', async (context) => {
    const settings = await settingsOf(context);
    await writeFile(settings['RELAY_QUOTA_STATE'] ?? '', '{"precious": true}');
    await assert.rejects(RelayProcess.start(settings), /is not a quota file or is damaged/u);
  });
});
