import { parseAllDocuments } from 'yaml';
import type { Document } from 'yaml';
import { Tree } from './tree.ts';
import { Workload } from './workload.ts';

/** Kind and name of an object. */
export type Which = readonly [kind: string, name: string];

type Path = readonly (string | number)[];

/** Kubernetes objects, as printed by kustomize. */
export class Manifests {
  readonly text: string;
  readonly objects: readonly Tree[];

  /** Throws if the text is not YAML. */
  constructor(text: string) {
    this.text = text;
    this.objects = documentsOf(text).map((document) => new Tree(document.toJS()));
  }

  all(kind: string): readonly Tree[] {
    return this.objects.filter((object) => object.at('kind').text === kind);
  }

  /** The object with that kind and name; an empty tree if there is none. */
  find([kind, name]: Which): Tree {
    return this.all(kind).find((object) => nameOf(object) === name) ?? new Tree(undefined);
  }

  /** The StatefulSet. Throws if there is not exactly one. */
  get relay(): Tree {
    const [relay, ...others] = this.all('StatefulSet');
    if (relay === undefined || others.length > 0)
      throw new Error(`expected one StatefulSet, found ${others.length + 1}`);
    return relay;
  }

  /** The relay's pod. */
  get pod(): Tree {
    return new Workload(this.relay).pod;
  }

  /** Containers of the relay's pod, in the order of their start. */
  get containers(): readonly Tree[] {
    return new Workload(this.relay).containers;
  }

  /** The container with that name in the relay's pod; an empty tree if there is none. */
  container(name: string): Tree {
    return new Workload(this.relay).container(name);
  }

  /** All workloads, the relay first. */
  get workloads(): readonly Workload[] {
    return [this.relay, ...this.all('Deployment')].map((object) => new Workload(object));
  }

  /**
   * The workload that an object belongs to: the last one whose name is a prefix of the object's name.
   * Undefined if there is none.
   */
  workloadOf(object: Tree): Workload | null {
    return this.workloads.findLast(({ name }) => nameOf(object).startsWith(name)) ?? null;
  }

  /** A copy with another value at one path; undefined removes it. Throws if there is no such object. */
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

  /** A copy with one more object. */
  and(object: unknown): Manifests {
    return new Manifests(`${this.text}\n---\n${JSON.stringify(object)}\n`);
  }
}

/** Name of a Kubernetes object. */
export function nameOf(object: Tree): string {
  return object.at('metadata', 'name').word;
}

/** Name of a part of an object, like a container or a port. */
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
