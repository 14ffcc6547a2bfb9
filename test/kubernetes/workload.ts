import { Tree } from './tree.ts';

/** What keeps pods of one kind running: the relays' StatefulSet, or a Deployment of what they need. */
export class Workload {
  readonly object: Tree;

  constructor(object: Tree) {
    this.object = object;
  }

  get name(): string {
    return this.object.at('metadata', 'name').word;
  }

  /** Of its pods. */
  get labels(): Tree {
    return this.object.at('spec', 'template', 'metadata', 'labels');
  }

  get pod(): Tree {
    return this.object.at('spec', 'template', 'spec');
  }

  /** What starts before the others, in its order, and then what starts at once. */
  get containers(): readonly Tree[] {
    return [...this.pod.at('initContainers').items, ...this.pod.at('containers').items];
  }

  /** Of all its containers. */
  get ports(): readonly Tree[] {
    return this.containers.flatMap((container) => container.at('ports').items);
  }

  /** The one of that name; nothing where there is none. */
  container(name: string): Tree {
    return this.containers.find((container) => container.at('name').word === name) ?? new Tree(undefined);
  }

  /** Whether labels that are looked for are those of its pods. No labels at all are no pod's, here. */
  isSelectedBy(labels: Tree): boolean {
    const wanted = labels.fields;
    return wanted.length > 0 && wanted.every(([label, value]) => this.labels.at(label).value === value.value);
  }
}
