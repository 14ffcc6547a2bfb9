import { parseAllDocuments } from 'yaml';
import type { Document } from 'yaml';
import { Tree } from './tree.ts';
import { Workload } from './workload.ts';

/** The kind and the name of an object. */
export type Which = readonly [kind: string, name: string];

type Path = readonly (string | number)[];

/** Objects of Kubernetes, as kustomize prints them. */
export class Manifests {
  readonly text: string;
  readonly objects: readonly Tree[];

  /** Throws where the text is no YAML. */
  constructor(text: string) {
    this.text = text;
    this.objects = documentsOf(text).map((document) => new Tree(document.toJS()));
  }

  all(kind: string): readonly Tree[] {
    return this.objects.filter((object) => object.at('kind').text === kind);
  }

  /** The one of that name; nothing where there is none. */
  find([kind, name]: Which): Tree {
    return this.all(kind).find((object) => nameOf(object) === name) ?? new Tree(undefined);
  }

  /** The StatefulSet; throws where there is not just one. */
  get relay(): Tree {
    const [relay, ...others] = this.all('StatefulSet');
    if (relay === undefined || others.length > 0)
      throw new Error(`${others.length + 1} StatefulSets, not one`);
    return relay;
  }

  /** The relay's pod. */
  get pod(): Tree {
    return new Workload(this.relay).pod;
  }

  /** The relay's and those beside it in its pod, in the order in which they start. */
  get containers(): readonly Tree[] {
    return new Workload(this.relay).containers;
  }

  /** The one of that name in the relay's pod; nothing where there is none. */
  container(name: string): Tree {
    return new Workload(this.relay).container(name);
  }

  /** All that has pods, the relay first. */
  get workloads(): readonly Workload[] {
    return [this.relay, ...this.all('Deployment')].map((object) => new Workload(object));
  }

  /** The one whose pods an object is for: the last of those whose name its own begins with. Nothing where there is none. */
  workloadOf(object: Tree): Workload | null {
    return this.workloads.findLast(({ name }) => nameOf(object).startsWith(name)) ?? null;
  }

  /** The same with another value in one place, which undefined takes away. Throws where there is no such object. */
  with(which: Which, path: Path, value: unknown): Manifests {
    const documents = documentsOf(this.text);
    const [kind, name] = which;
    const found = documents.find(
      (document) => document.get('kind') === kind && document.getIn(['metadata', 'name']) === name,
    );
    if (found === undefined) throw new Error(`no ${kind} ${name}`);
    if (value === undefined) found.deleteIn(path);
    else found.setIn(path, found.createNode(value));
    return new Manifests(documents.map((document) => document.toString()).join('---\n'));
  }

  /** The same with one more object. */
  and(object: unknown): Manifests {
    return new Manifests(`${this.text}\n---\n${JSON.stringify(object)}\n`);
  }
}

/** Of an object of Kubernetes. */
export function nameOf(object: Tree): string {
  return object.at('metadata', 'name').word;
}

/** Of a part of one, like a container or a port. */
export function nameIn(part: Tree): string {
  return part.at('name').word;
}

function documentsOf(text: string): Document[] {
  return parseAllDocuments(text).flatMap((document) => {
    const [error] = document.errors;
    if (error !== undefined) throw error;
    return document.contents === null ? [] : [document];
  });
}
