import type { Endpoint } from '../../../src/config/endpoint.ts';
import { nameIn, nameOf } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { readRelay, readSidecar } from './settings.ts';
import { Tree } from './tree.ts';
import { Workload } from './workload.ts';

/** Path of the label selector for each kind. */
const SELECTORS: readonly (readonly [kind: string, path: readonly string[]])[] = [
  ['StatefulSet', ['spec', 'selector', 'matchLabels']],
  ['Deployment', ['spec', 'selector', 'matchLabels']],
  ['Service', ['spec', 'selector']],
  ['NetworkPolicy', ['spec', 'podSelector', 'matchLabels']],
  ['PodMonitor', ['spec', 'selector', 'matchLabels']],
  ['PodDisruptionBudget', ['spec', 'selector', 'matchLabels']],
];

/** Every selector matches its own pod and no other, and the StatefulSet has its headless Service. */
export function selectorProblems(manifests: Manifests): string[] {
  const problems: string[] = [];
  for (const [kind, path] of SELECTORS) {
    for (const object of manifests.all(kind)) {
      const wanted = manifests.workloadOf(object);
      const found = manifests.workloads.filter((workload) => workload.isSelectedBy(object.at(...path)));
      if (found.length !== 1 || found[0]?.name !== wanted?.name)
        problems.push(`${kind} ${nameOf(object)} does not select the pod`);
    }
  }
  const governing = manifests.find(['Service', manifests.relay.at('spec', 'serviceName').word]);
  if (governing.at('spec', 'clusterIP').text !== 'None')
    problems.push('serviceName is not a headless Service');
  return problems;
}

/** Every referenced port exists, by the name or number of the reference. */
export function portProblems(manifests: Manifests): string[] {
  const problems: string[] = [];
  const miss = (who: string, port: Tree): void => void problems.push(`${who}: there is no port ${port.word}`);
  for (const { ports, containers } of manifests.workloads) {
    const numbers = ports.map((port) => port.at('containerPort').number);
    if (new Set(numbers).size < ports.length || new Set(ports.map(nameIn)).size < ports.length)
      problems.push('two ports of the pod have the same name or number');
    for (const container of containers) {
      for (const probe of ['startupProbe', 'readinessProbe', 'livenessProbe']) {
        const port = container.at(probe, 'httpGet', 'port');
        if (port.isThere && !isPortOf(container.at('ports').items, port)) miss(probe, port);
      }
    }
  }
  for (const service of manifests.all('Service')) {
    for (const port of service.at('spec', 'ports').items) {
      const target = port.at('targetPort').isThere ? port.at('targetPort') : port.at('port');
      if (!isFoundIn(manifests.workloadOf(service), target)) miss(`Service ${nameOf(service)}`, target);
    }
  }
  for (const monitor of manifests.all('PodMonitor')) {
    for (const endpoint of monitor.at('spec', 'podMetricsEndpoints').items)
      if (!isPortOf(manifests.workloadOf(monitor)?.ports ?? [], endpoint.at('port')))
        miss('PodMonitor', endpoint.at('port'));
  }
  return [...problems, ...routeProblems(manifests)];
}

/** Before 1.33, Services do not find port names of native sidecars; some networks never do. */
export function isFoundIn(workload: Workload | null, port: Tree): boolean {
  const { ports, pod } = workload ?? new Workload(new Tree(undefined));
  const main = pod.at('containers').items.flatMap((container) => container.at('ports').items);
  return isPortOf(port.text === null ? ports : main, port);
}

/** By number or by name. */
function isPortOf(ports: readonly Tree[], port: Tree): boolean {
  return ports.some((one) => [one.at('containerPort').value, one.at('name').value].includes(port.value));
}

/** Ingresses and routes lead to ports of Services, and routes belong to listeners of Gateways. */
function routeProblems(manifests: Manifests): string[] {
  const problems: string[] = [];
  const leadsTo = (who: string, service: string, port: Tree): void => {
    const ports = manifests.find(['Service', service]).at('spec', 'ports').items;
    const isThere = ports.some((one) => [one.at('port').value, one.at('name').value].includes(port.value));
    if (!isThere) problems.push(`${who}: there is no port ${port.word} of a Service ${service}`);
  };
  for (const ingress of manifests.all('Ingress')) {
    for (const path of ingress.at('spec', 'rules').items.flatMap((rule) => rule.at('http', 'paths').items)) {
      const service = path.at('backend', 'service');
      const port = service.at('port');
      leadsTo('Ingress', nameIn(service), port.at('name').isThere ? port.at('name') : port.at('number'));
    }
  }
  for (const route of manifests.all('HTTPRoute')) {
    for (const backend of route.at('spec', 'rules').items.flatMap((rule) => rule.at('backendRefs').items))
      leadsTo('HTTPRoute', nameIn(backend), backend.at('port'));
    for (const parent of route.at('spec', 'parentRefs').items) {
      const listeners = manifests.find(['Gateway', nameIn(parent)]).at('spec', 'listeners').items;
      const listener = parent.at('sectionName').word;
      if (!listeners.some((one) => nameIn(one) === listener))
        problems.push(`HTTPRoute: there is no listener ${listener} of a Gateway ${nameIn(parent)}`);
    }
  }
  return problems;
}

/** Listeners match the port names of the manifests. */
export function listeningProblems(manifests: Manifests): string[] {
  const problems: string[] = [];
  const compare = (container: string, name: string, endpoints: readonly Endpoint[]): void => {
    const port = manifests
      .container(container)
      .at('ports')
      .items.find((one) => nameIn(one) === name)
      ?.at('containerPort').number;
    const listens = endpoints.some((endpoint) => endpoint.kind === 'tcp' && endpoint.port === port);
    if (!listens) problems.push(`nothing listens on port ${name} (${port ?? 'missing'})`);
  };
  const relay = readRelay(manifests);
  if (relay.kind === 'ok') {
    compare('relay', 'raw', relay.config.listen.raw);
    compare('relay', 'websocket', relay.config.listen.websocket);
    compare('relay', 'status', relay.config.listen.status);
    const { cluster } = relay.config;
    if (cluster !== null) compare('relay', 'cluster', [cluster.listen]);
  }
  const sidecar = readSidecar(manifests);
  if (manifests.container('sidecar').isThere && sidecar.kind === 'ok')
    compare('sidecar', 'sidecar', sidecar.config.listen);
  return problems;
}

/** If there are limits per address, the relay sees client addresses. */
export function addressProblems(manifests: Manifests): string[] {
  const read = readRelay(manifests);
  if (read.kind === 'errors') return [];
  const { limits, trustedProxies } = read.config;
  if (limits.connectionsPerAddress === null && limits.newConnectionsPerAddress === null) return [];
  const problems: string[] = [];
  for (const service of manifests.all('Service')) {
    const isOpen = ['NodePort', 'LoadBalancer'].includes(service.at('spec', 'type').word);
    if (isOpen && service.at('spec', 'externalTrafficPolicy').text !== 'Local')
      problems.push(`Service ${nameOf(service)} hides the addresses of clients, which are limited`);
  }
  const proxies = [...manifests.all('Ingress'), ...manifests.all('HTTPRoute')];
  if (proxies.length > 0 && trustedProxies.length === 0)
    problems.push('addresses are limited, and the proxy is not in RELAY_TRUSTED_PROXIES');
  return problems;
}
