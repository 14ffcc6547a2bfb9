import { deepEqual, equal, match } from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { CLUSTER_BREAKS } from './breaks-cluster.ts';
import { BREAKS } from './breaks.ts';
import type { Break } from './breaks.ts';
import { customResourceProblems } from './custom-resources.ts';
import { buildOwn, checkStrictly, withoutKubectl, withoutStrictCheck } from './kustomize.ts';
import { Manifests } from './manifests.ts';
import { RULES, review } from './review.ts';

const budget = (spec: object): object => ({
  apiVersion: 'policy/v1',
  kind: 'PodDisruptionBudget',
  metadata: { name: 'transit-relay' },
  spec: { selector: { matchLabels: { 'app.kubernetes.io/name': 'transit-relay' } }, ...spec },
});

/** An overlay with all components. */
function buildEverything(overlay = 'overlays/production'): Promise<Manifests> {
  const literals = ['RELAY_TRUSTED_PROXIES=10.244.0.0/16'];
  return buildOwn({
    resources: [overlay],
    components: ['components/ingress', 'components/gateway-api', 'components/podmonitor'],
    configMapGenerator: [{ name: 'transit-relay', behavior: 'merge', literals }],
  });
}

describe('the review', { skip: withoutKubectl }, () => {
  // Each rule is tested alone, because other rules may find the same problem.
  const found = new Set<(manifests: Manifests) => string[]>();
  let [single, cluster] = [new Manifests(''), new Manifests('')];
  before(async () => {
    [single, cluster] = await Promise.all([buildEverything(), buildEverything('overlays/cluster')]);
  });

  test('finds no problem in the complete manifests', () => {
    for (const manifests of [single, cluster]) {
      deepEqual(review(manifests), []);
      deepEqual(customResourceProblems(manifests), []);
    }
  });

  const breaks = [
    ...BREAKS.map((one) => ['one relay', () => single, one] as const),
    ...CLUSTER_BREAKS.map((one) => ['a cluster', () => cluster, one] as const),
  ];
  for (const [name, manifests, [which, path, value, problem]] of breaks) {
    test(`reports a problem in ${name}: ${which.join(' ')} with ${path.slice(-3).join('.')}: ${JSON.stringify(value)}`, () => {
      const broken = manifests().with(which, path, value);
      const problems = RULES.flatMap((rule) => {
        const ofRule = rule(broken).filter((sentence) => problem.test(sentence));
        if (ofRule.length > 0) found.add(rule);
        return ofRule;
      });
      equal(new Set(problems).size, 1, review(broken).join('\n'));
    });
  }

  // A rule for problems that the API's schema already rejects would be a second implementation of it.
  test('has no rule that the strict check makes unnecessary', { skip: withoutStrictCheck }, async () => {
    const broken = breaks.map(([, manifests, [which, path, value]]) => manifests().with(which, path, value));
    const verdict = await checkStrictly(new Manifests(broken.map(({ text }) => text).join('---\n')));
    match(verdict, /^\d{4} objects, 0 faults, \d+ unchecked$/mu);
  });

  for (const spec of [{ minAvailable: 1 }, { maxUnavailable: 0 }, { maxUnavailable: '0%' }]) {
    test(`reports a disruption budget of ${JSON.stringify(spec)}`, () => {
      deepEqual(review(single.and(budget(spec))), ['its node can never be drained']);
    });
  }

  test('accepts a disruption budget that allows evictions', () => {
    deepEqual(review(single.and(budget({ maxUnavailable: 1 }))), []);
  });

  test('reports a namespace in the manifests', () => {
    const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'transit-relay' } };
    deepEqual(review(single.and(namespace)), [
      'the namespace is deleted with the relay, and everything in it',
    ]);
  });

  test('has a test for every rule', () => {
    deepEqual(
      RULES.filter((rule) => !found.has(rule)).map(({ name }) => name),
      [],
    );
  });
});

describe('the check of custom resources', { skip: withoutKubectl }, () => {
  let whole = new Manifests('');
  before(async () => {
    whole = await buildEverything();
  });

  const cases: readonly Break[] = [
    [
      ['PodMonitor', 'transit-relay'],
      ['spec', 'podMetricsEndpoints', 0, 'interval'],
      '15 s',
      /interval must match/u,
    ],
    [
      ['PodMonitor', 'transit-relay'],
      ['spec', 'podMetricsEndpoint'],
      [],
      /must NOT have additional properties/u,
    ],
    [
      ['PodMonitor', 'transit-relay'],
      ['spec', 'selector'],
      undefined,
      /must have required property 'selector'/u,
    ],
    [
      ['PodMonitor', 'transit-relay'],
      ['apiVersion'],
      'monitoring.coreos.com/v2',
      /^PodMonitor transit-relay: .* is not known here$/u,
    ],
    [
      ['HTTPRoute', 'transit-relay'],
      ['spec', 'rules', 0, 'timeouts', 'request'],
      '24 hours',
      /request must match pattern/u,
    ],
    [
      ['HTTPRoute', 'transit-relay'],
      ['spec', 'rules', 0, 'backendRefs', 0, 'port'],
      'websocket',
      /port must be integer/u,
    ],
    [
      ['HTTPRoute', 'transit-relay'],
      ['spec', 'rules', 0, 'matches', 0, 'path', 'type'],
      'Prefix',
      /must be equal to one of/u,
    ],
    [
      ['Gateway', 'transit-relay'],
      ['spec', 'gatewayClassName'],
      undefined,
      /required property 'gatewayClassName'/u,
    ],
    [['Gateway', 'transit-relay'], ['spec', 'listeners'], [], /must NOT have fewer than 1 items/u],
  ];
  for (const [which, path, value, fault] of cases) {
    test(`reports a problem: ${which.join(' ')} with ${path.slice(-2).join('.')}: ${JSON.stringify(value)}`, () => {
      match(customResourceProblems(whole.with(which, path, value)).join('\n'), fault);
    });
  }
});
