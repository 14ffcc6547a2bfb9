/** A value of a manifest at any depth. A missing value is empty. */
export class Tree {
  readonly value: unknown;

  constructor(value: unknown) {
    this.value = value;
  }

  /** The value at a path of field names and list indices. */
  at(...path: readonly (string | number)[]): Tree {
    return path.reduce<Tree>((tree, key) => tree.#below(key), this);
  }

  get isThere(): boolean {
    return this.value !== undefined && this.value !== null;
  }

  /** Null if it is not a string. */
  get text(): string | null {
    return typeof this.value === 'string' ? this.value : null;
  }

  /** Null if it is not a number. */
  get number(): number | null {
    return typeof this.value === 'number' ? this.value : null;
  }

  /** A string, or a number as a string; otherwise empty. */
  get word(): string {
    return typeof this.value === 'string' || typeof this.value === 'number' ? String(this.value) : '';
  }

  /** Elements of a list; empty if it is not a list. */
  get items(): readonly Tree[] {
    return Array.isArray(this.value) ? this.value.map((value: unknown) => new Tree(value)) : [];
  }

  /** Fields of an object; empty if it is not an object. */
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
