import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DockerSandbox } from '../support/docker.ts';
import type { Container } from '../support/docker.ts';
import { nameIn, nameOf } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { OPERATOR_SECRETS, secretFilesOf } from './operator-secrets.ts';
import { parseQuantity } from './quantity.ts';
import { givenSettings } from './settings.ts';
import type { Tree } from './tree.ts';
import { Workload } from './workload.ts';

/** A kubelet's volume before anybody has used it: root's, as a new file system is. */
const NEW_VOLUME_MODE = 0o755;

/** What giving a volume to a group adds: it may do what the owner may, and what is made in there is the group's too. */
const GROUP_BITS = 0o2070;

export interface PodOptions {
  readonly image: string;
  /** A directory of this machine for volumes, which this makes; they are gone with it. */
  readonly directory: string;
  /** What is in a Secret that may be missing; null where it is. */
  readonly secret?: string | null;
  /** Whose pod it is; the relay's where nothing is said. */
  readonly workload?: Workload;
  /** A network of Docker's, on which Services have their names; Docker's own, without names, where nothing is said. */
  readonly network?: string;
}

/**
 * A pod of the manifests, by Docker: its containers, with their users, rights, limits, settings and volumes, share a
 * network, as in a cluster. There is no kubelet: containers are started by hand, and probes are asked by hand.
 */
export class Pod implements AsyncDisposable {
  readonly #resources: DockerSandbox;
  readonly #manifests: Manifests;
  readonly #options: PodOptions;
  readonly #workload: Workload;
  readonly #sandbox: Container;
  /** On its network, like what the kubelet says of a pod. */
  readonly #address: string;

  private constructor(
    manifests: Manifests,
    options: PodOptions,
    relay: DockerSandbox,
    { sandbox, address }: { readonly sandbox: Container; readonly address: string },
  ) {
    this.#manifests = manifests;
    this.#options = options;
    this.#workload = workloadOf(manifests, options);
    this.#resources = relay;
    this.#sandbox = sandbox;
    this.#address = address;
  }

  /** Makes the volumes and the network; no container runs. */
  static async create(manifests: Manifests, options: PodOptions): Promise<Pod> {
    const relay = new DockerSandbox();
    const workload = workloadOf(manifests, options);
    const ports = workload.ports.flatMap((port) => [
      '--publish',
      `127.0.0.1::${port.at('containerPort').word}`,
    ]);
    const network = options.network === undefined ? [] : networkOf(manifests, workload, options.network);
    const sandbox = await relay.run(
      options.image,
      ['--entrypoint', 'sleep', ...ports, ...network],
      'infinity',
    );
    const address = await sandbox.inspect('{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}');
    makeVolumes(workload, options.directory);
    return new Pod(manifests, options, relay, { sandbox, address });
  }

  /** Starts the container of that name, with its image's own command where the manifests do not say another. */
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

  /** The port of this machine's loopback where a port of the pod is found, by its name. */
  async port(name: string): Promise<number> {
    const inside = this.#workload.ports.find((port) => nameIn(port) === name)?.at('containerPort').number;
    return this.#sandbox.port(inside ?? 0);
  }

  /** Asks a route of a port of the pod, as a kubelet does. */
  async ask(port: string, path: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
    return fetch(`http://127.0.0.1:${await this.port(port)}${path}`, { headers, keepalive: false });
  }

  /** Runs the command of a container's probe in it, and resolves with its word. Rejects when it fails. */
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
    const cluster = pod.at('fsGroup');
    return [
      '--user',
      `${pod.at('runAsUser').word}:${pod.at('runAsGroup').word}`,
      ...(cluster.isThere ? ['--group-add', cluster.word] : []),
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

/** A pod is found by the names of the Services that lead to it. */
function networkOf(manifests: Manifests, workload: Workload, network: string): string[] {
  const services = manifests
    .all('Service')
    .filter((service) => workload.isSelectedBy(service.at('spec', 'selector')));
  return ['--network', network, ...services.map((service) => `--network-alias=${nameOf(service)}`)];
}

/** New volumes as the kubelet mounts them: root's, and then given to fsGroup; with what Secrets have. */
function makeVolumes(workload: Workload, directory: string): void {
  const { object, pod, containers } = workload;
  const cluster = pod.at('securityContext', 'fsGroup').number;
  const claims = object
    .at('spec', 'volumeClaimTemplates')
    .items.map((lease) => lease.at('metadata', 'name').word);
  for (const name of [...claims, ...pod.at('volumes').items.map(nameIn)]) {
    const path = join(directory, name);
    mkdirSync(path);
    chownSync(path, 0, cluster ?? 0);
    chmodSync(path, cluster === null ? NEW_VOLUME_MODE : NEW_VOLUME_MODE | GROUP_BITS);
  }
  for (const file of containers.flatMap((container) => secretFilesOf(workload, container))) {
    const path = join(directory, file.volume, file.name);
    writeFileSync(path, OPERATOR_SECRETS.get(file.secret)?.get(file.key) ?? '');
    chownSync(path, 0, cluster ?? 0);
    chmodSync(path, file.mode);
  }
}
