const FACTORS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['m', 0.001],
  ['k', 1e3],
  ['M', 1e6],
  ['G', 1e9],
  ['T', 1e12],
  ['Ki', 2 ** 10],
  ['Mi', 2 ** 20],
  ['Gi', 2 ** 30],
  ['Ti', 2 ** 40],
]);

/** A Kubernetes quantity: cores, or bytes. Throws on invalid text. */
export function parseQuantity(text: string): number {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)([a-zA-Z]*)$/u.exec(text) ?? [];
  const factor = FACTORS.get(unit);
  if (digits === '' || factor === undefined) throw new Error(`${JSON.stringify(text)} is not a quantity`);
  return Number(digits) * factor;
}
