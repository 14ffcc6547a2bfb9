import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DockerHouse } from '../support/docker.ts';
import type { Container } from '../support/docker.ts';
import { nameIn } from './manifests.ts';
import type { Manifests } from './manifests.ts';
import { parseQuantity } from './quantity.ts';
import { givenSettings } from './settings.ts';
import type { Tree } from './tree.ts';

/** A kubelet's volume before anybody has used it: root's, as a new file system is. */
const NEW_VOLUME_MODE = 0o755;

/** What giving a volume to a group adds: it may do what the owner may, and what is made in there is the group's too. */
const GROUP_BITS = 0o2070;

export interface PodOptions {
  readonly image: string;
  /** A directory of this machine for volumes, which this makes; they are gone with it. */
  readonly directory: string;
  /** What is in the Secret; null where there is none. */
  readonly secret?: string | null;
}

/**
 * A pod of the manifests, by Docker: its containers, with their users, rights, limits, settings and volumes, share a
 * network, as in a cluster. There is no kubelet: containers are started by hand, and probes are asked by hand.
 */
export class Pod implements AsyncDisposable {
  readonly #house: DockerHouse;
  readonly #manifests: Manifests;
  readonly #options: PodOptions;
  readonly #sandbox: Container;

  private constructor(manifests: Manifests, options: PodOptions, house: DockerHouse, sandbox: Container) {
    this.#manifests = manifests;
    this.#options = options;
    this.#house = house;
    this.#sandbox = sandbox;
  }

  /** Makes the volumes and the network; no container runs. */
  static async create(manifests: Manifests, options: PodOptions): Promise<Pod> {
    const house = new DockerHouse();
    const ports = manifests.containers
      .flatMap((container) => container.at('ports').items)
      .flatMap((port) => ['--publish', `127.0.0.1::${port.at('containerPort').word}`]);
    const sandbox = await house.run(options.image, ['--entrypoint', 'sleep', ...ports], 'infinity');
    makeVolumes(manifests, options.directory);
    return new Pod(manifests, options, house, sandbox);
  }

  /** Starts the container of that name, with its image's own command where the manifests do not say another. */
  start(name: string): Promise<Container> {
    const container = this.#manifests.container(name);
    const options = [...this.#rights(container), ...this.#settings(container), ...this.#mounts(container)];
    const words = container.at('args').items.map((word) => word.word);
    return this.#house.run(
      this.#options.image,
      ['--network', `container:${this.#sandbox.id}`, ...options],
      ...words,
    );
  }

  /** The port of this machine's loopback where a port of the pod is found, by its name. */
  async port(name: string): Promise<number> {
    const ports = this.#manifests.containers.flatMap((container) => container.at('ports').items);
    const inside = ports.find((port) => nameIn(port) === name)?.at('containerPort').number;
    return this.#sandbox.port(inside ?? 0);
  }

  /** Asks a route of a port of the pod, as a kubelet does. */
  async ask(port: string, path: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
    return fetch(`http://127.0.0.1:${await this.port(port)}${path}`, { headers, keepalive: false });
  }

  /** Runs the command of a container's liveness probe in it, and resolves with its word. Rejects when it fails. */
  probe(name: string, container: Container): Promise<string> {
    const command = this.#manifests.container(name).at('livenessProbe', 'exec', 'command').items;
    return container.exec(...command.map((word) => word.word));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#house[Symbol.asyncDispose]();
  }

  #rights(container: Tree): string[] {
    const pod = this.#manifests.pod.at('securityContext');
    const own = container.at('securityContext');
    const group = pod.at('fsGroup');
    return [
      '--user',
      `${pod.at('runAsUser').word}:${pod.at('runAsGroup').word}`,
      ...(group.isThere ? ['--group-add', group.word] : []),
      ...own.at('capabilities', 'drop').items.map((one) => `--cap-drop=${one.word}`),
      ...(own.at('readOnlyRootFilesystem').value === true ? ['--read-only'] : []),
      ...(own.at('allowPrivilegeEscalation').value === false ? ['--security-opt=no-new-privileges'] : []),
      '--memory',
      String(parseQuantity(container.at('resources', 'limits', 'memory').word)),
    ];
  }

  #settings(container: Tree): string[] {
    const settings = givenSettings(this.#manifests, container, this.#options.secret ?? null);
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

/** New volumes as the kubelet mounts them: root's, and then given to fsGroup. */
function makeVolumes({ relay, pod }: Manifests, directory: string): void {
  const group = pod.at('securityContext', 'fsGroup').number;
  const claims = relay
    .at('spec', 'volumeClaimTemplates')
    .items.map((claim) => claim.at('metadata', 'name').word);
  for (const name of [...claims, ...pod.at('volumes').items.map(nameIn)]) {
    const path = join(directory, name);
    mkdirSync(path);
    chownSync(path, 0, group ?? 0);
    chmodSync(path, group === null ? NEW_VOLUME_MODE : NEW_VOLUME_MODE | GROUP_BITS);
  }
}
