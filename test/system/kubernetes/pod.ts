import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DockerSandbox, published } from '../../support/docker.ts';
import type { Container } from '../../support/docker.ts';
import { nameIn, nameOf } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { OPERATOR_SECRETS, secretFilesOf } from './operator-secrets.ts';
import { parseQuantity } from './quantity.ts';
import { givenSettings } from './settings.ts';
import type { Tree } from './tree.ts';
import { Workload } from './workload.ts';

/** Mode of a kubelet's new volume, which is owned by root like a new file system. */
const NEW_VOLUME_MODE = 0o755;

/** Mode bits that fsGroup adds: the group may do what the owner may, and new files belong to the group. */
const GROUP_BITS = 0o2070;

export interface PodOptions {
  readonly image: string;
  /** A host directory for volumes. They are created here and removed with it. */
  readonly directory: string;
  /** Content of an optional Secret; null if it does not exist. */
  readonly secret?: string | null;
  /** The workload of the pod; default: the relay. */
  readonly workload?: Workload;
  /** A Docker network with the names of the Services; default: Docker's own, without names. */
  readonly network?: string;
}

/**
 * A pod of the manifests, run with Docker: its containers, with their users, capabilities, limits, settings
 * and volumes, share a network, as in a cluster. There is no kubelet: the test starts containers and runs
 * probes.
 */
export class Pod implements AsyncDisposable {
  readonly #resources: DockerSandbox;
  readonly #manifests: Manifests;
  readonly #options: PodOptions;
  readonly #workload: Workload;
  readonly #sandbox: Container;
  /** Address on its network, as the kubelet would report it. */
  readonly #address: string;
  readonly #ports = new Map<string, Promise<number>>();

  private constructor(
    manifests: Manifests,
    options: PodOptions,
    resources: DockerSandbox,
    { sandbox, address }: { readonly sandbox: Container; readonly address: string },
  ) {
    this.#manifests = manifests;
    this.#options = options;
    this.#workload = workloadOf(manifests, options);
    this.#resources = resources;
    this.#sandbox = sandbox;
    this.#address = address;
  }

  /** Creates the volumes and the network; starts no container. */
  static async create(manifests: Manifests, options: PodOptions): Promise<Pod> {
    const resources = new DockerSandbox();
    const workload = workloadOf(manifests, options);
    const ports = await published(...workload.ports.map((port) => Number(port.at('containerPort').word)));
    const network = options.network === undefined ? [] : networkOf(manifests, workload, options.network);
    const sysctls = workload.pod
      .at('securityContext', 'sysctls')
      .items.map((one) => `--sysctl=${nameIn(one)}=${one.at('value').word}`);
    const sandbox = await resources.run(
      options.image,
      ['--entrypoint', 'sleep', ...ports, ...network, ...sysctls],
      'infinity',
    );
    const address = await sandbox.inspect('{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}');
    makeVolumes(workload, options.directory);
    return new Pod(manifests, options, resources, { sandbox, address });
  }

  /** Starts the container with that name, with the image's command unless the manifests override it. */
  start(name: string): Promise<Container> {
    const container = this.#workload.container(name);
    const [entrypoint, ...command] = container.at('command').items.map((word) => word.word);
    const options = [
      ...this.#rights(container),
      ...this.#settings(container),
      ...this.#mounts(container),
      ...(entrypoint === undefined ? [] : ['--entrypoint', entrypoint]),
    ];
    const args = container.at('args').items.map((word) => word.word);
    return this.#resources.run(
      this.#options.image,
      ['--network', `container:${this.#sandbox.id}`, ...options],
      ...command,
      ...args,
    );
  }

  /** The loopback port of a pod port, by its name. */
  port(name: string): Promise<number> {
    const known = this.#ports.get(name);
    if (known !== undefined) return known;
    const inside = this.#workload.ports.find((port) => nameIn(port) === name)?.at('containerPort').number;
    const port = this.#sandbox.port(inside ?? 0);
    this.#ports.set(name, port);
    return port;
  }

  /** Requests a route of a pod port, as a kubelet does. */
  async ask(port: string, path: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
    return fetch(`http://127.0.0.1:${await this.port(port)}${path}`, { headers, keepalive: false });
  }

  /** Runs the exec probe of a container and resolves with its output. Rejects if it fails. */
  probe(name: string, container: Container, kind = 'livenessProbe'): Promise<string> {
    const command = this.#workload.container(name).at(kind, 'exec', 'command').items;
    return container.exec(...command.map((word) => word.word));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources[Symbol.asyncDispose]();
  }

  #rights(container: Tree): string[] {
    const pod = this.#workload.pod.at('securityContext');
    const own = container.at('securityContext');
    const fsGroup = pod.at('fsGroup');
    return [
      '--user',
      `${pod.at('runAsUser').word}:${pod.at('runAsGroup').word}`,
      ...(fsGroup.isThere ? ['--group-add', fsGroup.word] : []),
      ...own.at('capabilities', 'drop').items.map((one) => `--cap-drop=${one.word}`),
      ...(own.at('readOnlyRootFilesystem').value === true ? ['--read-only'] : []),
      ...(own.at('allowPrivilegeEscalation').value === false ? ['--security-opt=no-new-privileges'] : []),
      '--memory',
      String(parseQuantity(container.at('resources', 'limits', 'memory').word)),
    ];
  }

  #settings(container: Tree): string[] {
    const secret = this.#options.secret ?? null;
    const settings = givenSettings(this.#manifests, container, secret, this.#address);
    return Object.entries(settings).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
  }

  #mounts(container: Tree): string[] {
    return container.at('volumeMounts').items.flatMap((mount) => {
      const from = join(this.#options.directory, nameIn(mount), mount.at('subPath').word);
      const mode = mount.at('readOnly').value === true ? 'ro' : 'rw';
      return ['--volume', `${from}:${mount.at('mountPath').word}:${mode}`];
    });
  }
}

function workloadOf(manifests: Manifests, { workload }: PodOptions): Workload {
  return workload ?? new Workload(manifests.relay);
}

/** A pod is found by the names of its Services. */
function networkOf(manifests: Manifests, workload: Workload, network: string): string[] {
  const services = manifests
    .all('Service')
    .filter((service) => workload.isSelectedBy(service.at('spec', 'selector')));
  return ['--network', network, ...services.map((service) => `--network-alias=${nameOf(service)}`)];
}

/**
 * New volumes as the kubelet mounts them: owned by root, then given to fsGroup, with the files of Secrets.
 */
function makeVolumes(workload: Workload, directory: string): void {
  const { object, pod, containers } = workload;
  const fsGroup = pod.at('securityContext', 'fsGroup').number;
  const claims = object
    .at('spec', 'volumeClaimTemplates')
    .items.map((claim) => claim.at('metadata', 'name').word);
  for (const name of [...claims, ...pod.at('volumes').items.map(nameIn)]) {
    const path = join(directory, name);
    mkdirSync(path);
    chownSync(path, 0, fsGroup ?? 0);
    chmodSync(path, fsGroup === null ? NEW_VOLUME_MODE : NEW_VOLUME_MODE | GROUP_BITS);
  }
  for (const file of containers.flatMap((container) => secretFilesOf(workload, container))) {
    const path = join(directory, file.volume, file.name);
    writeFileSync(path, OPERATOR_SECRETS.get(file.secret)?.get(file.key) ?? '');
    chownSync(path, 0, fsGroup ?? 0);
    chmodSync(path, file.mode);
  }
}
