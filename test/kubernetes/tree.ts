/** A value of a manifest, however deep. What is not there has no value, and nothing in it. */
export class Tree {
  readonly value: unknown;

  constructor(value: unknown) {
    this.value = value;
  }

  /** What lies below, by the names of fields or the places in lists that lead there. */
  at(...path: readonly (string | number)[]): Tree {
    return path.reduce<Tree>((tree, key) => tree.#below(key), this);
  }

  get isThere(): boolean {
    return this.value !== undefined && this.value !== null;
  }

  /** Null where it is no string. */
  get text(): string | null {
    return typeof this.value === 'string' ? this.value : null;
  }

  /** Null where it is no number. */
  get number(): number | null {
    return typeof this.value === 'number' ? this.value : null;
  }

  /** A string, or a number as one; empty where it is neither. */
  get word(): string {
    return typeof this.value === 'string' || typeof this.value === 'number' ? String(this.value) : '';
  }

  /** Of a list; empty where it is none. */
  get items(): readonly Tree[] {
    return Array.isArray(this.value) ? this.value.map((value: unknown) => new Tree(value)) : [];
  }

  /** Of an object; empty where it is none. */
  get fields(): readonly (readonly [name: string, value: Tree])[] {
    const { value } = this;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
    return Object.entries(value).map(([name, below]: [string, unknown]) => [name, new Tree(below)] as const);
  }

  #below(key: string | number): Tree {
    if (typeof key === 'number') return this.items[key] ?? new Tree(undefined);
    return this.fields.find(([name]) => name === key)?.[1] ?? new Tree(undefined);
  }
}
