import { Tree } from './tree.ts';

/** A controller of pods: the relays' StatefulSet, or a Deployment that they need. */
export class Workload {
  readonly object: Tree;

  constructor(object: Tree) {
    this.object = object;
  }

  get name(): string {
    return this.object.at('metadata', 'name').word;
  }

  /** Labels of its pods. */
  get labels(): Tree {
    return this.object.at('spec', 'template', 'metadata', 'labels');
  }

  get pod(): Tree {
    return this.object.at('spec', 'template', 'spec');
  }

  /** Init containers in order, then the other containers. */
  get containers(): readonly Tree[] {
    return [...this.pod.at('initContainers').items, ...this.pod.at('containers').items];
  }

  /** Environment of all its containers. */
  get ports(): readonly Tree[] {
    return this.containers.flatMap((container) => container.at('ports').items);
  }

  /** The container with that name; an empty tree if there is none. */
  container(name: string): Tree {
    return this.containers.find((container) => container.at('name').word === name) ?? new Tree(undefined);
  }

  /** Whether a selector matches its pods. An empty selector matches none here. */
  isSelectedBy(labels: Tree): boolean {
    const wanted = labels.fields;
    return wanted.length > 0 && wanted.every(([label, value]) => this.labels.at(label).value === value.value);
  }
}
