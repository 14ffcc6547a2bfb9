import { deepEqual, equal, match, notEqual, ok, rejects } from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { ACME_DEFAULTS } from '../../../src/config/acme-config.ts';
import { CLUSTER_DEFAULTS } from '../../../src/config/cluster-config.ts';
import { RELAY_DEFAULTS } from '../../../src/config/relay-config.ts';
import { SIDECAR_DEFAULTS } from '../../../src/config/sidecar-config.ts';
import { imageSettings } from '../../support/image-settings.ts';
import { customResourceProblems } from './custom-resources.ts';
import {
  COMPONENTS,
  KUBERNETES,
  OVERLAYS,
  buildOurs,
  buildOwn,
  checkStrictly,
  withoutKubectl,
  withoutStrictCheck,
} from './kustomize.ts';
import type { Kustomization } from './kustomize.ts';
import { Manifests, nameOf } from './manifests.ts';
import { review } from './review.ts';
import { relayConfig } from './settings.ts';

/** Setting for operators behind a proxy, as in the comments of the components. */
const TRUSTED = [
  {
    name: 'transit-relay',
    behavior: 'merge',
    literals: ['RELAY_TRUSTED_PROXIES=10.244.0.0/16 fd00:10:244::/56'],
  },
];

/**
 * All components that can be combined: clients connect through a load balancer and through both kinds of
 * proxies.
 */
const ALL: Kustomization = {
  resources: ['overlays/production'],
  components: ['ingress', 'gateway-api', 'podmonitor'].map((name) => `components/${name}`),
  configMapGenerator: TRUSTED,
};

const CASES: readonly (readonly [name: string, Kustomization])[] = [
  ...OVERLAYS.map((name) => [name, { resources: [name] }] as const),
  ...COMPONENTS.map((name) => [`base with ${name}`, { resources: ['base'], components: [name] }] as const),
  ['production with all components', ALL],
  ['a cluster with all components', { ...ALL, resources: ['overlays/cluster'] }],
  ...['production', 'cluster'].map(
    (name) =>
      [
        `${name} without persistence`,
        { resources: [`overlays/${name}`], components: ['components/no-persistence'] },
      ] as const,
  ),
];

/** Without settings of the operator, the manifests must fit the image. */
const FIXED: ReadonlySet<string> = new Set([
  'RELAY_LISTEN',
  'RELAY_WEBSOCKET_LISTEN',
  'RELAY_STATUS_LISTEN',
  // For one relay only; overlays/cluster has its own settings.
  ...Object.keys(CLUSTER_DEFAULTS),
  // The Services lead to no port 443; an Ingress or a Gateway has its own certificates.
  ...Object.keys(ACME_DEFAULTS),
  'SIDECAR_TOKEN',
  'SIDECAR_USAGE_DB',
  'SIDECAR_SNAPSHOT_DIR',
  'SIDECAR_RELAY_STATUS',
]);

/** A value that the image and the program derive from other settings. */
const LEFT_OPEN: ReadonlySet<string> = new Set(['SIDECAR_LISTEN']);

describe('the manifests', { skip: withoutKubectl, concurrency: true }, () => {
  const built = new Map<string, Manifests>();
  before(async () => {
    await Promise.all(
      CASES.map(async ([name, kustomization]) => built.set(name, await buildOwn(kustomization))),
    );
  });

  for (const [name] of CASES) {
    test(`${name}: pass the review`, () => {
      const manifests = built.get(name);
      ok(manifests !== undefined);
      deepEqual(review(manifests), []);
      deepEqual(customResourceProblems(manifests), []);
    });
  }

  test('are accepted by the API, in every combination', { skip: withoutStrictCheck }, async () => {
    // One check for all of them: it takes most of its time to read the schema.
    const all = new Manifests([...built.values()].map(({ text }) => text).join('---\n'));
    const verdict = await checkStrictly(all);
    match(verdict, new RegExp(`^${all.objects.length} objects, 0 faults, \\d+ unchecked$`, 'mu'));
  });

  test('are all covered by these tests', () => {
    const found = ['components', 'overlays'].flatMap((kind) =>
      readdirSync(join(KUBERNETES, kind)).map((name) => `${kind}/${name}`),
    );
    deepEqual(found.toSorted(), [...COMPONENTS, ...OVERLAYS.slice(1)].toSorted());
  });

  test('that the API would reject fail the strict check', { skip: withoutStrictCheck }, async () => {
    const base = await buildOurs('base');
    const wrong = base.with(
      ['StatefulSet', 'transit-relay'],
      ['spec', 'template', 'spec', 'enableServiceLink'],
      false,
    );
    match(await checkStrictly(wrong), /enableServiceLink[^]*, 1 faults, /u);
  });

  test('of the minimal overlay have no volume, no sidecar, and no records', async () => {
    const minimal = await buildOurs('overlays/minimal');
    deepEqual(
      minimal.containers.map((container) => container.at('name').word),
      ['relay'],
    );
    equal(minimal.relay.at('spec', 'volumeClaimTemplates').isThere, false);
    equal(minimal.pod.at('volumes').isThere, false);
    equal(relayConfig(minimal).usage.databasePath, null);
    deepEqual(minimal.all('ConfigMap').map(nameOf).length, 1);
  });

  test("without persistence keep the sidecar's snapshots within the volume", async () => {
    const manifests = await buildOwn({ resources: ['base'], components: ['components/no-persistence'] });
    equal(manifests.relay.at('spec', 'volumeClaimTemplates').isThere, false);
    ok(manifests.pod.at('volumes', 0, 'emptyDir', 'sizeLimit').isThere);
  });

  test('make relays of a cluster advertise the addresses of their pods, IPv4 or IPv6', async () => {
    const clustered = await buildOurs('overlays/cluster');
    for (const host of ['10.244.0.7', 'fd00:10:244::7']) {
      const { cluster } = relayConfig(clustered, host);
      deepEqual(cluster?.advertise, { host, port: null });
      equal(cluster.listen.port, 4005);
    }
  });

  test('change no volume claim and no name from production to the cluster, so that one can replace the other', async () => {
    const [production, clustered] = [
      await buildOurs('overlays/production'),
      await buildOurs('overlays/cluster'),
    ];
    // Everything that a StatefulSet does not allow to change.
    for (const field of ['volumeClaimTemplates', 'serviceName', 'selector', 'podManagementPolicy'])
      deepEqual(clustered.relay.at('spec', field).value, production.relay.at('spec', field).value, field);
    for (const one of production.objects.filter((object) => object.at('kind').text !== 'ConfigMap'))
      ok(clustered.find([one.at('kind').word, nameOf(one)]).isThere, nameOf(one));
  });

  test('restart the pod when a setting changes', async () => {
    const configMapGenerator = [
      { name: 'transit-relay', behavior: 'merge', literals: ['RELAY_LOG_LEVEL=debug'] },
    ];
    const [earlier, later] = [
      await buildOurs('base'),
      await buildOwn({ resources: ['base'], configMapGenerator }),
    ];
    const used = ['envFrom', 0, 'configMapRef', 'name'] as const;
    notEqual(earlier.container('relay').at(...used).word, later.container('relay').at(...used).word);
    equal(relayConfig(later).logLevel, 'debug');
    // A merge keeps the existing values.
    equal(relayConfig(later).drain.timeoutMs, relayConfig(earlier).drain.timeoutMs);
  });

  test('accept any image name', async () => {
    const images = [
      { name: 'transit-relay', newName: 'somewhere/relay', newTag: 'v1.2.3' },
      { name: 'valkey/valkey', newName: 'somewhere/valkey', newTag: '9' },
    ];
    const manifests = await buildOwn({ resources: ['overlays/cluster'], images });
    const found = manifests.workloads.flatMap(({ containers }) =>
      containers.map((one) => one.at('image').word),
    );
    deepEqual(found, ['somewhere/relay:v1.2.3', 'somewhere/relay:v1.2.3', 'somewhere/valkey:9']);
  });

  test('give Prometheus the job names that the alerts use', async () => {
    const manifests = await buildOwn({ resources: ['base'], components: ['components/podmonitor'] });
    const endpoints = manifests
      .all('PodMonitor')
      .flatMap((one) => one.at('spec', 'podMetricsEndpoints').items);
    const jobs = endpoints.map((endpoint) => {
      const [relabeling] = endpoint.at('relabelings').items;
      equal(relabeling?.at('targetLabel').word, 'job');
      return relabeling?.at('replacement').word;
    });
    const alerts = readFileSync(join(KUBERNETES, '..', 'prometheus', 'alerts.yml'), 'utf8');
    deepEqual(new Set(jobs), new Set([...alerts.matchAll(/\bjob="([\w-]+)"/gu)].map(([, job]) => job)));
  });

  test('that kustomize cannot build cause an error', async () => {
    await rejects(buildOwn({ resources: ['base'], components: ['components/none'] }), /components\/none/u);
  });
});

describe('the settings files', () => {
  test('contain no unknown variables, not even in comments', () => {
    const known = new Set([...Object.keys(RELAY_DEFAULTS), ...Object.keys(SIDECAR_DEFAULTS)]);
    const files = readdirSync(KUBERNETES, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.env'),
    );
    ok(files.length > 3, files.join());
    for (const file of files) {
      const lines = readFileSync(join(KUBERNETES, file), 'utf8').matchAll(/^#?([A-Z_]+?)(?:_FILE)?=/gmu);
      for (const [, name = ''] of lines) ok(known.has(name), `${file}: ${name}`);
    }
  });

  for (const [file, defaults] of [
    ['relay.env', RELAY_DEFAULTS],
    ['sidecar.env', SIDECAR_DEFAULTS],
  ] as const) {
    const text = readFileSync(join(KUBERNETES, 'base', file), 'utf8');
    const lines = [...text.matchAll(/^(#?)([A-Z_]+)=(.*)$/gmu)];

    test(`${file} lists every variable of operators once`, () => {
      const names = lines.map(([, , name = '']) => name);
      const known = Object.keys(defaults).filter((name) => !FIXED.has(name));
      deepEqual(names.toSorted(), known.toSorted());
    });

    test(`${file} shows the defaults`, () => {
      const without: Record<string, string> = { ...defaults, ...imageSettings() };
      for (const [, mark, name = '', value] of lines)
        if (mark === '#' && !LEFT_OPEN.has(name)) equal(value, without[name], name);
        else notEqual(value, without[name], name);
    });
  }
});
