/** The value at a path of keys and indexes in parsed JSON or YAML. Throws if there is none. */
export function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  let found = value;
  for (const key of path) {
    found =
      typeof found === 'object' && found !== null ? Object.entries(found)[place(found, key)]?.[1] : undefined;
    if (found === undefined)
      throw new Error(`no ${path.join('.')} in ${JSON.stringify(value).slice(0, 500)}`);
  }
  return found;
}

/** The same for strings. */
export function textAt(value: unknown, ...path: readonly (string | number)[]): string {
  const found = at(value, ...path);
  if (typeof found !== 'string')
    throw new Error(`${path.join('.')} is not a string: ${JSON.stringify(found)}`);
  return found;
}

/** The same for arrays. */
export function listAt(value: unknown, ...path: readonly (string | number)[]): readonly unknown[] {
  const found = at(value, ...path);
  if (!Array.isArray(found)) throw new Error(`${path.join('.')} is not a list: ${JSON.stringify(found)}`);
  return found;
}

/** The same for objects with string values. */
export function textsAt(value: unknown, ...path: readonly (string | number)[]): ReadonlyMap<string, string> {
  const found = at(value, ...path);
  if (typeof found !== 'object' || found === null) throw new Error(`${path.join('.')} is not an object`);
  return new Map(Object.entries(found).map(([key, text]) => [key, String(text)]));
}

/** Whether an object has a key. */
export function has(value: unknown, key: string): boolean {
  return typeof value === 'object' && value !== null && key in value;
}

function place(value: object, key: string | number): number {
  return Object.keys(value).indexOf(String(key));
}
