import { withoutRedis } from '../support/redis.ts';
import type { Bench } from './bench.ts';
import { CoordinatorProcess, startMember } from './cluster-group.ts';
import type { Member } from './cluster-group.ts';
import { groupLatency } from './cluster-latency.ts';
import { groupPairs } from './cluster-pairs.ts';
import { groupThroughput } from './cluster-throughput.ts';
import { groupWaiting } from './cluster-waiting.ts';
import { startRelay } from './peers.ts';
import type { Peer } from './peers.ts';

/** What is measured: one relay that knows of no other, and relays of groups. */
export interface Site {
  readonly alone: Peer;
  readonly first: Member;
  readonly second: Member;
  readonly third: Member;
  /** Of another group. */
  readonly firstByTls: Member;
  readonly secondByTls: Member;
  readonly coordinator: CoordinatorProcess;
}

/** A group of relays beside one that is alone: what it costs to meet, to wait and to send. */
export async function cluster(bench: Bench): Promise<void> {
  const missing = withoutRedis();
  if (missing !== false) {
    bench.print(`A group needs a coordinator. There is ${missing}.\n`);
    return;
  }
  await measureSite(bench);
  await groupWaiting(bench);
}

async function measureSite(bench: Bench): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const coordinator = stack.use(await CoordinatorProcess.start(bench.workshop));
  const byTls = { RELAY_CLUSTER_TLS: 'true', RELAY_CLUSTER_URL: `${coordinator.url}/1` };
  const site: Site = {
    alone: stack.use(await startRelay()),
    first: stack.use(await startMember(coordinator)),
    second: stack.use(await startMember(coordinator)),
    third: stack.use(await startMember(coordinator)),
    firstByTls: stack.use(await startMember(coordinator, byTls)),
    secondByTls: stack.use(await startMember(coordinator, byTls)),
    coordinator,
  };
  await groupPairs(bench, site);
  await groupLatency(bench, site);
  await groupThroughput(bench, site);
}
