import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { GRAPHS, MuninNode } from './munin-node.ts';
import type { Graph } from './munin-node.ts';
import { RelayProcess, UsageReader } from '../../support/relay-process.ts';
import { scratch, until } from '../../support/scratch.ts';
import { createUsageFile } from '../../support/usage-files.ts';
import { fileMetadata } from '../../support/usage-fixture.ts';
import { pairAt, runClients, connectWaiting } from './clients.ts';

export const MOODS = ['happy', 'errory', 'lonely', 'redundant', 'impatient', 'empty'] as const;

export const FIELDS: Readonly<Record<Graph, readonly string[]>> = {
  active: ['waiting', 'connected'],
  bytes: ['bytes', 'incomplete'],
  bytes_alltime: ['bytes', 'incomplete'],
  events: MOODS,
  events_alltime: MOODS,
};

/** Values of all graphs if they are unknown. */
export const UNKNOWN = Object.fromEntries(
  GRAPHS.map((graph) => [graph, Object.fromEntries(FIELDS[graph].map((field) => [field, 'U']))]),
);

/** Starts a munin-node for a database. It runs plugins as the current user. */
export function startMunin(
  context: TestContext,
  usagedb: string,
  ...settings: readonly string[]
): Promise<MuninNode> {
  const own = [`user ${process.getuid?.()}`, `group ${process.getgid?.()}`];
  const user = process.getuid?.() === 0 ? own : [];
  return MuninNode.start(context, [...user, `env.usagedb ${usagedb}`, ...settings]);
}

/** A path in a temporary directory of the test. */
export async function newPath(context: TestContext): Promise<string> {
  return join(await scratch(context), 'usage.sqlite');
}

/**
 * Starts a relay with a database that has three old records of 6 bytes in total, and at least one record of each mood
 * since the start. One client waits, one pair relayed 600,000 bytes and ended, another one has relayed 2,000.
 */
export async function startBusyRelay(path: string): Promise<RelayProcess> {
  createUsageFile(path, { rows: 3 });
  // Otherwise the stop would wait for the running pair.
  const settings = { RELAY_DRAIN_DELAY: '0s', RELAY_DRAIN_TIMEOUT: '0s' };
  const relay = await RelayProcess.start({ RELAY_USAGE_DB: path, ...settings });
  const port = relay.port('raw');
  const ended = await pairAt(port);
  await ended.exchange(300_000);
  await ended.end();
  await runClients(port, [
    'errory',
    'errory',
    'lonely',
    'lonely',
    'lonely',
    'impatient',
    'impatient',
    'empty',
  ]);
  await connectWaiting(port);
  const running = await pairAt(port, 4);
  await running.exchange(1000);
  using reader = new UsageReader(path);
  // 9 records of single clients and the ended pair, and 4 redundant ones.
  await until(() => reader.rows().length === 3 + 9 + 4);
  await until(() => {
    const { connected, waiting, incomplete_bytes: bytes } = reader.current() ?? {};
    return connected === 2 && waiting === 1 && bytes === 2000;
  });
  return relay;
}

/** Values of all graphs for `startBusyRelay`. */
export const BUSY_RELAY_VALUES = {
  active: { waiting: '1', connected: '2' },
  bytes: { bytes: '600000', incomplete: '602000' },
  bytes_alltime: { bytes: '600006', incomplete: '602006' },
  events: { happy: '1', errory: '2', lonely: '3', redundant: '4', impatient: '2', empty: '1' },
  events_alltime: { happy: '4', errory: '2', lonely: '3', redundant: '4', impatient: '2', empty: '1' },
};

export function zeros(fields: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(fields.map((field) => [field, '0']));
}

/** Names, inodes and owners of the files in the directory of a database. */
export function filesBeside(path: string): unknown {
  return fileMetadata(join(path, '..')).map((metadata) => {
    const { name, ino, uid } = Object.assign({ name: '', ino: 0, uid: 0 }, metadata);
    return { name, ino, uid };
  });
}
