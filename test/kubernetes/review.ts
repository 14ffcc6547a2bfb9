import type { Manifests } from './manifests.ts';
import { coordinatorFaults } from './review-coordinator.ts';
import { disruptionFaults } from './review-disruption.ts';
import { clusterFaults, scalingFaults } from './review-cluster.ts';
import { addressFaults, listeningFaults, portFaults, selectorFaults } from './review-network.ts';
import { placeFaults, probeFaults, resourceFaults, securityFaults, volumeFaults } from './review-pod.ts';
import { policyFaults, reachFaults } from './review-policies.ts';
import { drainFaults, environmentFaults, memoryFaults, secretFaults } from './review-settings.ts';

/**
 * Checks that no schema can do: whether the parts fit each other and the programs. Each rule returns one
 * message per problem.
 */
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
  clusterFaults,
  scalingFaults,
  coordinatorFaults,
  reachFaults,
];

/** Every problem of all rules, once. */
export function review(manifests: Manifests): string[] {
  return [...new Set(RULES.flatMap((rule) => rule(manifests)))];
}
