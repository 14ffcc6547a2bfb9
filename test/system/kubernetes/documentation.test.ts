import { deepEqual, equal, ok } from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, test } from 'node:test';
import { parse } from 'yaml';
import { ROOT } from '../../support/docker.ts';
import { COMPONENTS, OVERLAYS, buildOurs, buildOwn, withoutKubectl } from './kustomize.ts';
import type { Kustomization } from './kustomize.ts';
import { placeProblems } from './review-pod.ts';
import { GRACE_MARGIN_SECONDS, preStopSeconds } from './review-settings.ts';
import { RULES } from './review.ts';
import { relayConfig } from './settings.ts';

const NUMERALS = ['no', 'one', 'two', 'three', 'four', 'five', 'six'];

const DOCS = join(ROOT, 'docs');

const PAGE = readFileSync(join(DOCS, 'kubernetes.md'), 'utf8');

/** Without line breaks inside paragraphs. */
const PROSE = PAGE.replaceAll(/\s+/gu, ' ');

/** The kustomizations on the page, with paths of the clone. */
function kustomizationsOf(text: string): Kustomization[] {
  const blocks = [...text.matchAll(/```yaml\n([^`]*)```/gu)].map(([, block = '']) => block);
  return blocks.map((block) => {
    const value: unknown = parse(block.replaceAll('../CLONE/deploy/kubernetes/', ''));
    return Object.assign({}, value);
  });
}

/** The list items of the page, each on one line. */
function listItems(): string[] {
  const items = PAGE.match(/^- .*(?:\n {2}\S.*)*/gmu) ?? [];
  return items.map((item) => item.replaceAll(/\s+/gu, ' '));
}

describe('docs/kubernetes.md', () => {
  test('has a kustomization that works unchanged', { skip: withoutKubectl }, async () => {
    const [whole = {}, proxies = {}] = kustomizationsOf(PAGE);
    const manifests = await buildOwn(whole);
    equal(manifests.pod.at('containers', 0, 'image').word, 'NAME:TAG');
    equal(manifests.relay.at('metadata', 'namespace').word, 'transit-relay');
    // Namespace and image are up to the operator.
    const rules = RULES.filter((rule) => rule !== placeProblems);
    deepEqual(
      rules.flatMap((rule) => rule(manifests)),
      [],
    );
    equal(relayConfig(manifests).quota?.counts, 'in+out');
    const behind = await buildOwn({
      resources: ['overlays/production'],
      components: ['components/ingress'],
      ...proxies,
    });
    deepEqual(
      RULES.flatMap((rule) => rule(behind)),
      [],
    );
  });

  test('describes each component and each overlay', () => {
    for (const name of [...COMPONENTS.map((path) => relative('components', path)), ...OVERLAYS])
      ok(PAGE.includes(`\`${name}\``), name);
  });

  test('names existing paths and headings', () => {
    const titles = [...PAGE.matchAll(/^#+ (.+)$/gmu)].map(([, title = '']) => title.toLowerCase());
    const headings = new Set(titles.map((title) => title.replaceAll(/[^\w\s-]/gu, '').replaceAll(' ', '-')));
    const links = [...PAGE.matchAll(/\]\((?!https?:)([^)]+)\)/gu)].map(([, link = '']) => link);
    const paths = [...PAGE.matchAll(/-k (deploy\/\S+?)[`\s]/gu)].map(([, path = '']) => join(ROOT, path));
    ok(links.length > 3 && paths.length > 2, `${links.length} links, ${paths.length} paths`);
    for (const path of paths) ok(existsSync(join(path, 'kustomization.yaml')), path);
    for (const link of links) {
      const [path = '', heading = ''] = link.split('#');
      ok(path === '' ? headings.has(heading) : existsSync(join(DOCS, path)), link);
    }
  });

  test(
    'explains how to drain the node of a pod with an emptyDir volume',
    { skip: withoutKubectl },
    async () => {
      const kept = await buildOwn({ resources: ['base'], components: ['components/no-persistence'] });
      // `kubectl drain` refuses a node with such a pod otherwise.
      ok(kept.pod.at('volumes').items.some((volume) => volume.at('emptyDir').isThere));
      const items = listItems().filter((item) => /`(?:no-persistence|kubectl drain)`/u.test(item));
      equal(items.length, 2);
      for (const item of items) ok(item.includes('--delete-emptydir-data'), item);
    },
  );

  test('contains the current numbers', { skip: withoutKubectl }, async () => {
    for (const name of OVERLAYS) {
      const manifests = await buildOurs(name);
      const { delayMs, timeoutMs } = relayConfig(manifests).drain;
      const grace = manifests.pod.at('terminationGracePeriodSeconds').word;
      for (const number of [
        `\`terminationGracePeriodSeconds\` (${grace})`,
        `\`RELAY_DRAIN_DELAY\` (${delayMs / 1000} s)`,
        `\`RELAY_DRAIN_TIMEOUT\` (${timeoutMs / 60_000} min)`,
        `and ${GRACE_MARGIN_SECONDS} s for records`,
      ])
        ok(PROSE.includes(number), number);
    }
    const cluster = await buildOurs('overlays/cluster');
    const scaler = cluster.find(['HorizontalPodAutoscaler', 'transit-relay']).at('spec');
    const [least, most] = ['minReplicas', 'maxReplicas'].map((field) => scaler.at(field).number ?? 0);
    const preStop = preStopSeconds(cluster.container('relay'));
    for (const number of [
      `cluster of ${NUMERALS[least ?? 0]} to ${NUMERALS[most ?? 0]} relays`,
      `the autoscaler makes them ${NUMERALS[least ?? 0]}`,
      `${preStop} s of \`preStop\``,
      `${preStop} s (\`preStop\`)`,
      // Before Kubernetes 1.34, load balancers have only this time to find the new relay.
      'before Kubernetes 1.34, as soon as the new one is ready',
      `the ${preStop} s of its \`preStop\``,
      `ready for ${cluster.relay.at('spec', 'minReadySeconds').word} s`,
      `port ${relayConfig(cluster).cluster?.listen.port}`,
    ])
      ok(PROSE.includes(number), number);
  });
});
