import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { openUsageDatabase } from '../../../src/sidecar/usage/usage-source.ts';
import type { UsageSource } from '../../../src/sidecar/usage/usage-source.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { until } from '../../support/scratch.ts';
import { createUsageFixture, fileMetadata } from '../../support/usage-fixture.ts';

test('the database of a relay can be read while the relay runs, after it stopped, and after it was killed', async (context) => {
  const source = await createUsageFixture(context);
  const settings = { RELAY_USAGE_DB: source.databasePath };
  const relay = await RelayProcess.start(settings);
  context.after(() => relay[Symbol.asyncDispose]());
  await until(() => currentRows(source) === 1);
  await relay.stop();
  const stopped = fileMetadata(source.volume);
  assert.equal(stopped.length, 1);
  assert.equal(currentRows(source), 1);
  assert.deepEqual(fileMetadata(source.volume), stopped);

  const next = await RelayProcess.start(settings);
  context.after(() => next[Symbol.asyncDispose]());
  await until(() => currentRows(source) === 1);
  process.kill(next.pid, 'SIGKILL');
  await until(() => !isAlive(next.pid));
  assert.equal(fileMetadata(source.volume).length, 3);
  assert.equal(currentRows(source), 1);

  const last = await RelayProcess.start(settings);
  context.after(() => last[Symbol.asyncDispose]());
  assert.equal(currentRows(source), 1);
  await last.stop();
  assert.deepEqual(readdirSync(source.volume), ['usage.sqlite']);
});

function currentRows(source: UsageSource): unknown {
  const opened = openUsageDatabase(source);
  try {
    return opened.database.prepare('SELECT count(*) FROM current').pluck().get();
  } finally {
    opened.database.close();
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0) && !/^State:\s+Z/mu.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
