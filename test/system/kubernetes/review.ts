import type { Manifests } from './manifests.ts';
import { coordinatorProblems } from './review-coordinator.ts';
import { disruptionProblems } from './review-disruption.ts';
import { clusterProblems, scalingProblems } from './review-cluster.ts';
import { addressProblems, listeningProblems, portProblems, selectorProblems } from './review-network.ts';
import {
  placeProblems,
  probeProblems,
  resourceProblems,
  securityProblems,
  socketBufferProblems,
  volumeProblems,
} from './review-pod.ts';
import { policyProblems, reachProblems } from './review-policies.ts';
import { drainProblems, environmentProblems, memoryProblems, secretProblems } from './review-settings.ts';

/**
 * Checks that no schema can do: whether the parts fit each other and the programs. Each rule returns one
 * message per problem.
 */
export const RULES: readonly ((manifests: Manifests) => string[])[] = [
  selectorProblems,
  portProblems,
  listeningProblems,
  addressProblems,
  environmentProblems,
  drainProblems,
  memoryProblems,
  securityProblems,
  socketBufferProblems,
  resourceProblems,
  probeProblems,
  volumeProblems,
  disruptionProblems,
  placeProblems,
  secretProblems,
  policyProblems,
  clusterProblems,
  scalingProblems,
  coordinatorProblems,
  reachProblems,
];

/** Every problem of all rules, once. */
export function review(manifests: Manifests): string[] {
  return [...new Set(RULES.flatMap((rule) => rule(manifests)))];
}
