import { nameOf } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { parseQuantity } from './quantity.ts';
import { readRelay } from './settings.ts';
import type { Workload } from './workload.ts';

/** Memory beyond its data, for its own use and for replies, as a share of the limit. */
const MAX_OF_LIMIT = 0.8;

/** Host and port of the URL. */
export interface Coordinator {
  readonly host: string;
  readonly port: number;
}

/** Null if the relay has no coordinator, or would not start. */
export function coordinatorOf(manifests: Manifests): Coordinator | null {
  const read = readRelay(manifests);
  if (read.kind === 'errors' || read.config.cluster === null) return null;
  return read.config.cluster.coordinator;
}

/** The workload behind a Service with that name. */
export function behind(manifests: Manifests, host: string): Workload | null {
  const service = manifests.find(['Service', host]);
  return manifests.workloads.find((one) => one.isSelectedBy(service.at('spec', 'selector'))) ?? null;
}

/** The URL leads to one coordinator, which has probes, keeps all leases, and stays within its limit. */
export function coordinatorProblems(manifests: Manifests): string[] {
  const coordinator = coordinatorOf(manifests);
  if (coordinator === null) return [];
  const ports = manifests.find(['Service', coordinator.host]).at('spec', 'ports').items;
  const workload = behind(manifests, coordinator.host);
  if (workload === null || !ports.some((port) => port.at('port').value === coordinator.port))
    return [`there is no coordinator at ${coordinator.host}:${coordinator.port}`];
  const problems: string[] = [];
  const { object, pod } = workload;
  if (nameOf(object) === nameOf(manifests.relay)) problems.push('the coordinator is a relay');
  if (object.at('spec', 'replicas').value !== 1 || object.at('spec', 'strategy', 'type').text !== 'Recreate')
    problems.push('there may be two coordinators, each with a part of the leases');
  for (const container of pod.at('containers').items) {
    for (const probe of ['readinessProbe', 'livenessProbe'])
      if (!container.at(probe).isThere) problems.push(`the coordinator has no ${probe}`);
    const script = container.at('command', 2).word;
    const [, megabytes = 'Infinity'] = /^maxmemory (\d+)mb$/mu.exec(script) ?? [];
    const limit = parseQuantity(container.at('resources', 'limits', 'memory').word);
    if (Number(megabytes) * 2 ** 20 > limit * MAX_OF_LIMIT)
      problems.push('the coordinator exceeds its memory limit');
    if (!/^maxmemory-policy noeviction$/mu.test(script)) problems.push('the coordinator may drop leases');
    // The kubelet would treat it as the name of a variable.
    if (script.includes('$(')) problems.push('the command has variables that Kubernetes expands');
  }
  return problems;
}
