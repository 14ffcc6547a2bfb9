import { posix } from 'node:path';
import { codeOf, importsOf, resolve } from './imports.ts';
import type { Import, Sources } from './imports.ts';
import {
  DATA,
  INDEPENDENT,
  LAYERS,
  LOADED_ON_DEMAND,
  MAY_USE_PROCESS,
  RESERVED,
  SERVED,
  layerOf,
} from './layers.ts';

/** Globals that make a pure file impure. */
const IMPURE =
  /\b(?:process|Buffer|Date|performance|setTimeout|setInterval|setImmediate|console|Math\s*\.\s*random|crypto|fetch|globalThis|require)\b/gu;

/** All violations of the architecture, each as a sentence that begins with the file. */
export function violationsOf(sources: Sources): string[] {
  const violations: string[] = [];
  for (const [file, source] of sources) {
    violations.push(...violationsOfFile(file, source));
    for (const found of importsOf(source)) violations.push(...violationsOfImport(sources, file, found));
  }
  return [...violations, ...cyclesOf(sources)];
}

function violationsOfFile(file: string, source: string): string[] {
  const code = codeOf(source);
  const violations: string[] = [];
  if (layerOf(file) < 0) violations.push(`${file} is in no layer`);
  if (posix.basename(file) === 'index.ts') violations.push(`${file} is a barrel`);
  if (/\bexport\s+default\b|\bexport\s*\{[^}]*\bas\s+default\b/u.test(code)) {
    violations.push(`${file} has a default export`);
  }
  if (!MAY_USE_PROCESS.has(file) && /\bprocess\s*(?:\?\.|\.|\[)/u.test(code))
    violations.push(`${file} uses process`);
  if (file.startsWith('protocol/')) {
    for (const [name] of code.matchAll(IMPURE)) violations.push(`${file} is not pure: ${name}`);
  }
  return violations;
}

function violationsOfImport(sources: Sources, file: string, { specifier, kind }: Import): string[] {
  const target = resolve(file, specifier);
  const violations: string[] = [];
  if (file.startsWith('protocol/') && !/^\.\/[^/]+$/u.test(specifier)) {
    violations.push(`${file} imports ${specifier}, which is outside protocol/`);
  }
  if (!MAY_USE_PROCESS.has(file) && /^(?:node:)?process$/u.test(specifier))
    violations.push(`${file} uses process`);
  if (RESERVED.some(({ what, by }) => what.test(target ?? specifier) && !by.test(file)))
    violations.push(`${file} imports ${specifier}, which is reserved for others`);
  if (target === null || SERVED.has(target) || DATA.has(target)) return violations;
  if (!specifier.endsWith('.ts')) violations.push(`${file} imports ${specifier}, which does not end in .ts`);
  else if (!sources.has(target)) violations.push(`${file} imports ${specifier}, which does not exist`);
  if (LOADED_ON_DEMAND.has(target) && kind === 'static')
    violations.push(`${file} imports ${specifier} before it is needed`);
  return [...violations, ...violationsOfDirection(file, target, specifier, kind)];
}

function violationsOfDirection(
  file: string,
  target: string,
  specifier: string,
  kind: Import['kind'],
): string[] {
  const [from, to] = [layerOf(file), layerOf(target)];
  const names = [LAYERS[from]?.[0] ?? '', LAYERS[to]?.[0] ?? ''];
  const areIndependent = from !== to && INDEPENDENT.some((pair) => names.every((layer) => pair.has(layer)));
  if (areIndependent) return [`${file} imports from an independent layer: ${specifier}`];
  return to > from && kind !== 'type' ? [`${file} imports upward: ${specifier}`] : [];
}

/** Cycles of imports, each once, as `a -> b -> a`. */
function cyclesOf(sources: Sources): string[] {
  const done = new Set<string>();
  const violations: string[] = [];
  function visit(file: string, path: readonly string[]): void {
    const start = path.indexOf(file);
    if (start >= 0) violations.push(`cycle: ${[...path.slice(start), file].join(' -> ')}`);
    const source = sources.get(file);
    if (start >= 0 || done.has(file) || source === undefined) return;
    for (const { specifier, kind } of importsOf(source)) {
      if (kind === 'type') continue;
      const target = resolve(file, specifier);
      if (target !== null) visit(target, [...path, file]);
    }
    done.add(file);
  }
  for (const file of sources.keys()) visit(file, []);
  return violations;
}
