import { nameOf } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { behind, coordinatorOf } from './review-coordinator.ts';
import { isFoundIn } from './review-network.ts';
import { readRelay } from './settings.ts';
import type { Tree } from './tree.ts';
import { Workload } from './workload.ts';

/** DNS ports, which pods outside of the manifests serve. */
const DNS_PORT = 53;

const DIRECTIONS = [
  ['ingress', 'from', 'Ingress'],
  ['egress', 'to', 'Egress'],
] as const;

type Direction = (typeof DIRECTIONS)[number];

const [IN, OUT] = DIRECTIONS;

/** Every port of a policy exists in the pods that it leads to, by a name or number that all networks find. */
export function policyProblems(manifests: Manifests): string[] {
  const problems: string[] = [];
  for (const policy of manifests.all('NetworkPolicy')) {
    const spec = policy.at('spec');
    const own = manifests.workloadOf(policy);
    const rules = [
      ...spec.at('ingress').items.map((rule) => [rule, [own]] as const),
      ...spec.at('egress').items.map((rule) => [rule, peersOf(manifests, rule)] as const),
    ];
    for (const [rule, workloads] of rules) {
      for (const port of rule.at('ports').items.map((one) => one.at('port'))) {
        const isDns = workloads.length === 0 && port.value === DNS_PORT;
        const isThere = workloads.length > 0 && workloads.every((one) => isFoundIn(one, port));
        if (!isDns && !isThere) problems.push(`NetworkPolicy: there is no port ${port.word}`);
      }
    }
    for (const [field, , type] of DIRECTIONS) {
      const types = spec.at('policyTypes').items.map((one) => one.word);
      if (spec.at(field).isThere !== types.includes(type))
        problems.push(`NetworkPolicy ${nameOf(policy)} declares ${field} differently from its rules`);
    }
  }
  return problems;
}

/**
 * Relays may connect to each other, to the coordinator and to DNS, and no other pod may connect to the first
 * two.
 */
export function reachProblems(manifests: Manifests): string[] {
  const read = readRelay(manifests);
  const coordinator = coordinatorOf(manifests);
  if (read.kind === 'errors' || read.config.cluster === null || coordinator === null) return [];
  const relays = new Workload(manifests.relay);
  const server = behind(manifests, coordinator.host);
  if (server === null) return [];
  const problems: string[] = [];
  for (const [who, to, port] of [
    ['each other', relays, read.config.cluster.listen.port],
    ['the coordinator', server, coordinator.port],
  ] as const) {
    const leaves = allows(manifests, OUT, relays, to, { port, protocol: 'TCP' });
    const enters = allows(manifests, IN, to, relays, { port, protocol: 'TCP' });
    if (!leaves || !enters) problems.push(`policies block relays from ${who}`);
    if (allows(manifests, IN, to, null, { port, protocol: 'TCP' }))
      problems.push(`other pods may connect to port ${port}`);
  }
  for (const protocol of ['UDP', 'TCP'])
    if (!allows(manifests, OUT, relays, null, { port: DNS_PORT, protocol }))
      problems.push(`policies block relays from DNS over ${protocol}`);
  for (const port of [80, 443])
    for (const workload of [relays, server])
      if (allows(manifests, OUT, workload, null, { port, protocol: 'TCP' }))
        problems.push(`${workload.name} may connect to anything`);
  return problems;
}

interface Target {
  readonly port: number;
  readonly protocol: string;
}

/**
 * Whether policies allow a connection of a workload in that direction; `peer` is null for a pod of another
 * owner.
 */
function allows(
  manifests: Manifests,
  [field, side, type]: Direction,
  workload: Workload,
  peer: Workload | null,
  { port, protocol }: Target,
): boolean {
  const policies = manifests.all('NetworkPolicy').filter((policy) => {
    const types = policy.at('spec', 'policyTypes').items.map((one) => one.word);
    return types.includes(type) && workload.isSelectedBy(policy.at('spec', 'podSelector', 'matchLabels'));
  });
  const isPort = (one: Tree): boolean =>
    one.at('port').value === port && (one.at('protocol').text ?? 'TCP') === protocol;
  const isPeer = (one: Tree): boolean => {
    // Pods of other namespaces, or other networks.
    if (one.at('namespaceSelector').isThere || one.at('ipBlock').isThere) return peer === null;
    return peer?.isSelectedBy(one.at('podSelector', 'matchLabels')) ?? false;
  };
  const rules = policies.flatMap((policy) => policy.at('spec', field).items);
  const isAllowed = rules.some((rule) => {
    const [ports, peers] = [rule.at('ports').items, rule.at(side).items];
    return (ports.length === 0 || ports.some(isPort)) && (peers.length === 0 || peers.some(isPeer));
  });
  return policies.length === 0 || isAllowed;
}

/** The workloads that an egress rule names. */
function peersOf({ workloads }: Manifests, rule: Tree): readonly Workload[] {
  const selectors = rule.at('to').items.map((one) => one.at('podSelector', 'matchLabels'));
  return workloads.filter((one) => selectors.some((selector) => one.isSelectedBy(selector)));
}
