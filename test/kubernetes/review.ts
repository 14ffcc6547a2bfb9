import type { Manifests } from './manifests.ts';
import { coordinatorFaults } from './review-coordinator.ts';
import { disruptionFaults } from './review-disruption.ts';
import { groupFaults, scalingFaults } from './review-group.ts';
import { addressFaults, listeningFaults, portFaults, selectorFaults } from './review-network.ts';
import { placeFaults, probeFaults, resourceFaults, securityFaults, volumeFaults } from './review-pod.ts';
import { policyFaults, reachFaults } from './review-policies.ts';
import { drainFaults, environmentFaults, memoryFaults, secretFaults } from './review-settings.ts';

/** What no schema can see: whether the parts fit each other, and the programs. Each gives a sentence for each fault. */
export const RULES: readonly ((manifests: Manifests) => string[])[] = [
  selectorFaults,
  portFaults,
  listeningFaults,
  addressFaults,
  environmentFaults,
  drainFaults,
  memoryFaults,
  securityFaults,
  resourceFaults,
  probeFaults,
  volumeFaults,
  disruptionFaults,
  placeFaults,
  secretFaults,
  policyFaults,
  groupFaults,
  scalingFaults,
  coordinatorFaults,
  reachFaults,
];

/** Every fault of all rules, once. */
export function review(manifests: Manifests): string[] {
  return [...new Set(RULES.flatMap((rule) => rule(manifests)))];
}
