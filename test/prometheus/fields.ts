/** What is found in a value that came as JSON or YAML, by keys and places. Throws where there is nothing. */
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

/** The same for text. */
export function textAt(value: unknown, ...path: readonly (string | number)[]): string {
  const found = at(value, ...path);
  if (typeof found !== 'string') throw new Error(`${path.join('.')} is no text: ${JSON.stringify(found)}`);
  return found;
}

/** The same for a list. */
export function listAt(value: unknown, ...path: readonly (string | number)[]): readonly unknown[] {
  const found = at(value, ...path);
  if (!Array.isArray(found)) throw new Error(`${path.join('.')} is no list: ${JSON.stringify(found)}`);
  return found;
}

/** The same for an object whose values are text. */
export function textsAt(value: unknown, ...path: readonly (string | number)[]): ReadonlyMap<string, string> {
  const found = at(value, ...path);
  if (typeof found !== 'object' || found === null) throw new Error(`${path.join('.')} is no object`);
  return new Map(Object.entries(found).map(([key, text]) => [key, String(text)]));
}

/** Whether there is anything at that key of an object. */
export function has(value: unknown, key: string): boolean {
  return typeof value === 'object' && value !== null && key in value;
}

function place(value: object, key: string | number): number {
  return Object.keys(value).indexOf(String(key));
}
