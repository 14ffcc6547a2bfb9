import { deepEqual, equal } from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Program, eventually } from '../../support/programs.ts';
import { RelayProcess, UsageReader } from '../../support/relay-process.ts';

const WAITING = 10_000;
const PAIRS = 1000;
const BYTES_EACH_WAY = 262_144;

/** File descriptors of the relay besides its clients, with a margin. */
const SPARE_FDS = 200;
const NEEDED_FDS = WAITING + 2 * PAIRS + SPARE_FDS;

/** Timeout of one step, in milliseconds: much longer than it takes. */
const STEP_MS = 100_000;

const SWARM = join(import.meta.dirname, 'swarm.ts');

const fdLimit = execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).trim();
const skip =
  fdLimit !== 'unlimited' && Number(fdLimit) < NEEDED_FDS
    ? `needs a limit of ${NEEDED_FDS} file descriptors per process; ulimit -Hn prints ${fdLimit}`
    : false;

test('a thousand transfers lose no byte while ten thousand clients wait', { skip }, async (t) => {
  await using resources = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), 'relay-scale-'));
  resources.defer(() => rmSync(directory, { recursive: true }));
  const database = join(directory, 'usage.sqlite');
  const relay = resources.use(await RelayProcess.start({ RELAY_USAGE_DB: database, RELAY_MAX_WAITING: '' }));
  const usage = resources.use(new UsageReader(database));
  const port = String(relay.port('raw'));
  const swarm = (role: string, ...counts: number[]): Program =>
    resources.use(new Program([process.execPath, SWARM, role, port, ...counts.map(String)]));
  const startedAt = performance.now();
  const lap = (what: string): void =>
    t.diagnostic(`${((performance.now() - startedAt) / 1000).toFixed(1)} s: ${what}`);

  const rssAlone = residentKiB(relay.pid);
  const waiting = swarm('waiting', WAITING);
  await waiting.waitForOutput(/^waiting$/mu, STEP_MS);
  await untilCurrent(usage, { waiting: WAITING, connected: 0, incomplete_bytes: 0 });
  lap('all clients wait');
  const rssWaiting = residentKiB(relay.pid);
  t.diagnostic(`the relay's memory: ${rssAlone} KiB alone, ${rssWaiting} KiB with ${WAITING} waiting`);
  t.diagnostic(`${((rssWaiting - rssAlone) / WAITING).toFixed(2)} KiB per waiting client`);

  const pairs = swarm('pairs', PAIRS, BYTES_EACH_WAY);
  await pairs.waitForOutput(/^paired$/mu, STEP_MS);
  lap('all pairs are connected');
  await pairs.waitForOutput(/^exchanged$/mu, STEP_MS);
  lap('all pairs have exchanged their bytes');
  await untilCurrent(usage, {
    waiting: WAITING,
    connected: 2 * PAIRS,
    incomplete_bytes: PAIRS * 2 * BYTES_EACH_WAY,
  });
  deepEqual(usage.rows(), [], 'a client was closed early');
  t.diagnostic(`the relay's memory: ${residentKiB(relay.pid)} KiB with ${PAIRS} pairs as well`);

  pairs.endInput();
  await pairs.succeeds(STEP_MS);
  const happy = { result: 'happy', total_bytes: 2 * BYTES_EACH_WAY, waited: 1, rows: PAIRS };
  await untilCurrent(usage, { waiting: WAITING, connected: 0, incomplete_bytes: 0 });
  await eventually(
    () => 'each pair has a record',
    STEP_MS,
    () => (usage.rows().length >= PAIRS ? true : null),
  );
  deepEqual(usage.counts(), [happy]);

  waiting.endInput();
  await waiting.succeeds(STEP_MS);
  await untilCurrent(usage, { waiting: 0, connected: 0, incomplete_bytes: 0 });
  lap('all clients have disconnected');
  await relay.stop();
  deepEqual(usage.counts(), [happy, { result: 'lonely', total_bytes: 0, waited: 0, rows: WAITING }]);
  equal(usage.current()?.waiting, 0);
});

interface CurrentCounts {
  readonly waiting: number;
  readonly connected: number;
  readonly incomplete_bytes: number;
}

/** Waits until the database has the expected counts. */
async function untilCurrent(usage: UsageReader, expected: CurrentCounts): Promise<void> {
  const what = (): string =>
    `current is ${JSON.stringify(usage.current())}, expected ${JSON.stringify(expected)}`;
  await eventually(what, STEP_MS, () => {
    const current = usage.current();
    return current?.waiting === expected.waiting &&
      current.connected === expected.connected &&
      current.incomplete_bytes === expected.incomplete_bytes
      ? current
      : null;
  });
}

function residentKiB(pid: number): number {
  const found = /^VmRSS:\s+(\d+) kB$/mu.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(found?.[1]);
}
