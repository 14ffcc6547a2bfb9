import { withoutRedis } from '../support/redis.ts';
import type { Bench } from './bench.ts';
import { CoordinatorProcess, startMember } from './cluster-members.ts';
import type { Member } from './cluster-members.ts';
import { clusterLatency } from './cluster-latency.ts';
import { clusterPairs } from './cluster-pairs.ts';
import { clusterThroughput } from './cluster-throughput.ts';
import { clusterWaiting } from './cluster-waiting.ts';
import { startRelay } from './peers.ts';
import type { Peer } from './peers.ts';

/** The measured relays: a single one, and those of clusters. */
export interface BenchCluster {
  readonly single: Peer;
  readonly first: Member;
  readonly second: Member;
  readonly third: Member;
  /** A relay of another cluster. */
  readonly firstByTls: Member;
  readonly secondByTls: Member;
  readonly coordinator: CoordinatorProcess;
}

/** A cluster of relays compared with a single one: the cost of pairing, waiting and sending. */
export async function cluster(bench: Bench): Promise<void> {
  const skipReason = withoutRedis();
  if (skipReason !== false) {
    bench.print(`The scenario cluster is skipped: ${skipReason}.\n`);
    return;
  }
  await measureCluster(bench);
  await clusterWaiting(bench);
}

async function measureCluster(bench: Bench): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const coordinator = stack.use(await CoordinatorProcess.start(bench.programs));
  const byTls = { RELAY_CLUSTER_TLS: 'true', RELAY_CLUSTER_URL: `${coordinator.url}/1` };
  const relays: BenchCluster = {
    single: stack.use(await startRelay()),
    first: stack.use(await startMember(coordinator)),
    second: stack.use(await startMember(coordinator)),
    third: stack.use(await startMember(coordinator)),
    firstByTls: stack.use(await startMember(coordinator, byTls)),
    secondByTls: stack.use(await startMember(coordinator, byTls)),
    coordinator,
  };
  await clusterPairs(bench, relays);
  await clusterLatency(bench, relays);
  await clusterThroughput(bench, relays);
}
