import { Ajv } from 'ajv';
import type { AnySchema } from 'ajv';
import { nameOf } from './manifests.ts';
import type { Manifests } from './manifests.ts';

/** An object with these fields and no others. */
function object(
  properties: Readonly<Record<string, AnySchema>>,
  required: readonly string[] = [],
): AnySchema {
  return { type: 'object', properties, required, additionalProperties: false };
}

function listOf(items: AnySchema): AnySchema {
  return { type: 'array', items, minItems: 1 };
}

const TEXT = { type: 'string', minLength: 1 };
const PORT = { type: 'integer', minimum: 1, maximum: 65_535 };
const LABELS = { type: 'object', additionalProperties: TEXT };

/** Duration of the Prometheus operator: years to milliseconds, each unit once and in this order. */
const SCRAPE_INTERVAL = {
  type: 'string',
  pattern: '^(0|(\\d+y)?(\\d+w)?(\\d+d)?(\\d+h)?(\\d+m)?(\\d+s)?(\\d+ms)?)$',
};

/** Duration of the Gateway API, GEP-2257. */
const GATEWAY_DURATION = { type: 'string', pattern: '^(\\d{1,5}(h|m|s|ms)){1,4}$' };

function resource(spec: AnySchema): AnySchema {
  const metadata = object({ name: TEXT, namespace: TEXT, labels: LABELS, annotations: LABELS }, ['name']);
  return object({ apiVersion: TEXT, kind: TEXT, metadata, spec }, ['apiVersion', 'kind', 'metadata', 'spec']);
}

/**
 * The parts of custom resources that are used here. They follow the definitions that monitoring.coreos.com
 * (operator 0.91) and gateway.networking.k8s.io (1.4, standard channel) install in a cluster.
 */
const SCHEMAS: ReadonlyMap<string, AnySchema> = new Map([
  [
    'monitoring.coreos.com/v1/PodMonitor',
    resource(
      object(
        {
          selector: object({ matchLabels: LABELS }),
          podMetricsEndpoints: listOf(
            object({
              port: TEXT,
              path: { type: 'string', pattern: '^/' },
              interval: SCRAPE_INTERVAL,
              relabelings: listOf(object({ targetLabel: TEXT, replacement: TEXT }, ['targetLabel'])),
              authorization: object({
                type: TEXT,
                credentials: object({ name: TEXT, key: TEXT, optional: { type: 'boolean' } }, ['key']),
              }),
            }),
          ),
        },
        ['selector', 'podMetricsEndpoints'],
      ),
    ),
  ],
  [
    'gateway.networking.k8s.io/v1/Gateway',
    resource(
      object(
        {
          gatewayClassName: TEXT,
          listeners: listOf(
            object(
              {
                name: TEXT,
                protocol: { enum: ['HTTP', 'HTTPS', 'TLS', 'TCP', 'UDP'] },
                port: PORT,
                hostname: TEXT,
                tls: object({
                  mode: { enum: ['Terminate', 'Passthrough'] },
                  certificateRefs: listOf(object({ name: TEXT, namespace: TEXT }, ['name'])),
                }),
                allowedRoutes: object({
                  namespaces: object({ from: { enum: ['All', 'Selector', 'Same'] } }),
                }),
              },
              ['name', 'protocol', 'port'],
            ),
          ),
        },
        ['gatewayClassName', 'listeners'],
      ),
    ),
  ],
  [
    'gateway.networking.k8s.io/v1/HTTPRoute',
    resource(
      object({
        parentRefs: listOf(object({ name: TEXT, namespace: TEXT, sectionName: TEXT }, ['name'])),
        hostnames: listOf(TEXT),
        rules: listOf(
          object({
            matches: listOf(
              object({
                path: object({ type: { enum: ['Exact', 'PathPrefix', 'RegularExpression'] }, value: TEXT }),
              }),
            ),
            timeouts: object({ request: GATEWAY_DURATION, backendRequest: GATEWAY_DURATION }),
            backendRefs: listOf(object({ name: TEXT, port: PORT }, ['name'])),
          }),
        ),
      }),
    ),
  ],
]);

const ajv = new Ajv({ allErrors: true });

const CHECKS = new Map([...SCHEMAS].map(([id, schema]) => [id, ajv.compile(schema)]));

/** Problems of objects whose kind is not part of Kubernetes itself, including unknown kinds. */
export function customResourceProblems(manifests: Manifests): string[] {
  return manifests.objects.flatMap((found) => {
    const [apiVersion, kind] = [found.at('apiVersion').word, found.at('kind').word];
    if (
      !/\.(?:coreos\.com|networking\.k8s\.io)\//u.test(`.${apiVersion}/`) ||
      apiVersion === 'networking.k8s.io/v1'
    )
      return [];
    const check = CHECKS.get(`${apiVersion}/${kind}`);
    if (check === undefined) return [`${kind} ${nameOf(found)}: ${apiVersion} is not known here`];
    if (check(found.value)) return [];
    return (check.errors ?? []).map(({ instancePath, message }) => `${kind}: ${instancePath} ${message}`);
  });
}
