import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench } from './bench.ts';
import { CoordinatorProcess, startMember } from './cluster-members.ts';
import type { Member } from './cluster-members.ts';
import { startLoad } from './load.ts';
import { startRelay } from './peers.ts';
import type { Peer } from './peers.ts';
import { residentKiB } from './process-memory.ts';
import { Samples, formatTable } from './table.ts';

/**
 * A relay of a cluster reserves a descriptor for the link of each client, so 20,000 descriptors allow less
 * than 10,000 clients. If it must release more leases than that at one time, some of them expire instead.
 */
const WAITING = 9000;
const QUICK_WAITING = 2000;

const SETUP_TIMEOUT_MS = 60_000;

/** Leases are renewed every 8 to 10 s. */
const RENEWAL_TIMEOUT_MS = 20_000;

const POLL_MS = 100;

/** Time for a started renewal round to end. */
const ROUND_MS = 1000;

const NOTE = `Leases are renewed every 8 to 10 s while a client waits. Bytes are those of connections, as counted by the coordinator.
`;

/** The coordinator's work so far, and its memory. */
interface CoordinatorUsage {
  readonly memoryBytes: number;
  readonly cpuSeconds: number;
  readonly inBytes: number;
  readonly outBytes: number;
  /** As counted by the relay. */
  readonly commands: number;
}

const STEPS = ['lease', 'renewal', 'release'] as const;

interface Measured {
  readonly relayKiB: number;
  /** Difference between two steps; null without a coordinator. */
  readonly usages: readonly CoordinatorUsage[] | null;
}

type Admin = Awaited<ReturnType<CoordinatorProcess['admin']>>;

/** Cost of a waiting client for the coordinator and its relay. */
export async function clusterWaiting(bench: Bench): Promise<void> {
  const count = bench.quick ? QUICK_WAITING : WAITING;
  const rounds = bench.quick ? 1 : Math.min(bench.rounds, 3);
  const single: Measured[] = [];
  const inCluster: Measured[] = [];
  for (let round = 0; round < rounds; round += 1) {
    single.push(await waitAtSingleRelay(bench, count));
    inCluster.push(await waitInCluster(bench, count));
  }
  const relayKiB = (results: readonly Measured[]): string =>
    new Samples(results.map((result) => result.relayKiB / count)).format(2);
  bench.print(
    formatTable(
      `Cluster: memory of a relay for ${count} waiting clients with different tokens`,
      ['relay', 'KiB each'],
      [
        ['single', relayKiB(single)],
        ['of a cluster', relayKiB(inCluster)],
      ],
    ),
  );
  const rows = STEPS.map((step, index) => {
    const each = (digits: number, value: (usage: CoordinatorUsage) => number): string => {
      const grown = inCluster.map(({ usages }) => {
        const [before, after] = [usages?.[index], usages?.[index + 1]];
        return before === undefined || after === undefined ? Number.NaN : value(after) - value(before);
      });
      return new Samples(grown.map((growth) => growth / count)).format(digits);
    };
    return [
      step,
      each(4, ({ commands }) => commands),
      each(0, ({ memoryBytes }) => memoryBytes),
      each(2, ({ cpuSeconds }) => cpuSeconds * 1e6),
      each(0, ({ inBytes }) => inBytes),
      each(0, ({ outBytes }) => outBytes),
    ];
  });
  const header = ['step', 'commands', 'memory bytes', 'CPU µs', 'bytes in', 'bytes out'];
  bench.print(
    formatTable(`Cluster: cost of each of ${count} waiting tokens for the coordinator`, header, rows),
  );
  bench.print(NOTE);
}

async function waitAtSingleRelay(bench: Bench, count: number): Promise<Measured> {
  await using relay = await startRelay();
  return await measure(bench, relay, count, null);
}

async function waitInCluster(bench: Bench, count: number): Promise<Measured> {
  await using coordinator = await CoordinatorProcess.start(bench.programs);
  await using relay = await startMember(coordinator);
  const admin = await coordinator.admin();
  try {
    return await measure(bench, relay, count, { relay, admin });
  } finally {
    admin.destroy();
  }
}

/** Relay and coordinator are new processes, because a process seldom returns memory. */
async function measure(
  bench: Bench,
  relay: Peer,
  count: number,
  inCluster: { readonly relay: Member; readonly admin: Admin } | null,
): Promise<Measured> {
  const before = residentKiB(relay.pid);
  const usages = inCluster === null ? null : [await usageOf(inCluster.relay, inCluster.admin)];
  await using load = startLoad(bench.programs, 'wait', relay, { pairs: count });
  await load.waitForOutput(/^waiting$/mu, SETUP_TIMEOUT_MS);
  if (inCluster !== null) await eventually(async () => (await inCluster.admin.dbSize()) >= count);
  await sleep(bench.quick ? 300 : 1500);
  const relayKiB = residentKiB(relay.pid) - before;
  if (inCluster !== null && usages !== null) {
    usages.push(await usageOf(inCluster.relay, inCluster.admin));
    await untilRenewed(inCluster.admin);
    usages.push(await usageOf(inCluster.relay, inCluster.admin));
  }
  load.endInput();
  await load.succeeds(SETUP_TIMEOUT_MS);
  if (inCluster !== null && usages !== null) {
    // The key of the coordinator probe may be left.
    await eventually(async () => (await inCluster.admin.dbSize()) <= 1);
    usages.push(await usageOf(inCluster.relay, inCluster.admin));
  }
  return { relayKiB, usages };
}

async function usageOf(relay: Member, admin: Admin): Promise<CoordinatorUsage> {
  const commands = await relay.commands();
  const text = `${await admin.info('memory')}\n${await admin.info('cpu')}\n${await admin.info('stats')}`;
  const fields = new Map(text.split(/\r?\n/u).map((line) => [line.split(':')[0], line.split(':')[1]]));
  const field = (name: string): number => Number(fields.get(name));
  return {
    memoryBytes: field('used_memory'),
    cpuSeconds: field('used_cpu_user') + field('used_cpu_sys'),
    inBytes: field('total_net_input_bytes'),
    outBytes: field('total_net_output_bytes'),
    commands,
  };
}

/**
 * Resolves when all leases have been renewed once more: one of them is extended, and the others soon after.
 */
async function untilRenewed(admin: Admin): Promise<void> {
  const { keys } = await admin.scan('0', { COUNT: 100 });
  const result = keys.find((key) => !key.endsWith(':test'));
  if (result === undefined) throw new Error('there are no leases');
  let leaseMs = Number.POSITIVE_INFINITY;
  await eventually(async () => {
    const lastMs = leaseMs;
    leaseMs = await admin.pTTL(result);
    return leaseMs > lastMs;
  });
  await sleep(ROUND_MS);
}

async function eventually(probe: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + RENEWAL_TIMEOUT_MS;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error('leases are not acquired, renewed or released in time');
    await sleep(POLL_MS);
  }
}
