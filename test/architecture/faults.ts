import { posix } from 'node:path';
import { codeOf, importsOf, resolve } from './imports.ts';
import type { Import, Sources } from './imports.ts';
import { DATA, LOADED_LATE, MAY_TOUCH_PROCESS, RESERVED, ROOMS, SERVED, STRANGERS, roomOf } from './rooms.ts';

/** What reaches out of a pure room without an import. */
const IMPURE =
  /\b(?:process|Buffer|Date|performance|setTimeout|setInterval|setImmediate|console|Math\s*\.\s*random|crypto|fetch|globalThis|require)\b/gu;

/** Every fault of an architecture, each in a sentence that names its file. */
export function faultsOf(sources: Sources): string[] {
  const faults: string[] = [];
  for (const [file, source] of sources) {
    faults.push(...faultsOfFile(file, source));
    for (const found of importsOf(source)) faults.push(...faultsOfImport(sources, file, found));
  }
  return [...faults, ...cyclesOf(sources)];
}

function faultsOfFile(file: string, source: string): string[] {
  const code = codeOf(source);
  const faults: string[] = [];
  if (roomOf(file) < 0) faults.push(`${file} is in no room`);
  if (posix.basename(file) === 'index.ts') faults.push(`${file} is a barrel`);
  if (/\bexport\s+default\b|\bexport\s*\{[^}]*\bas\s+default\b/u.test(code)) {
    faults.push(`${file} has a default export`);
  }
  if (!MAY_TOUCH_PROCESS.has(file) && /\bprocess\s*(?:\?\.|\.|\[)/u.test(code))
    faults.push(`${file} touches process`);
  if (file.startsWith('protocol/')) {
    for (const [name] of code.matchAll(IMPURE)) faults.push(`${file} is not pure: ${name}`);
  }
  return faults;
}

function faultsOfImport(sources: Sources, file: string, { specifier, kind }: Import): string[] {
  const target = resolve(file, specifier);
  const faults: string[] = [];
  if (file.startsWith('protocol/') && !/^\.\/[^/]+$/u.test(specifier)) {
    faults.push(`${file} imports ${specifier}, which is no sibling`);
  }
  if (!MAY_TOUCH_PROCESS.has(file) && /^(?:node:)?process$/u.test(specifier))
    faults.push(`${file} touches process`);
  if (RESERVED.some(({ what, by }) => what.test(target ?? specifier) && !by.test(file)))
    faults.push(`${file} imports ${specifier}, which is not for it`);
  if (target === null || SERVED.has(target) || DATA.has(target)) return faults;
  if (!specifier.endsWith('.ts')) faults.push(`${file} imports ${specifier}, which does not end in .ts`);
  else if (!sources.has(target)) faults.push(`${file} imports ${specifier}, which is not there`);
  if (LOADED_LATE.has(target) && kind === 'first')
    faults.push(`${file} imports ${specifier} before it is needed`);
  return [...faults, ...faultsOfDirection(file, target, specifier)];
}

function faultsOfDirection(file: string, target: string, specifier: string): string[] {
  const [from, to] = [roomOf(file), roomOf(target)];
  const rooms = [ROOMS[from]?.[0] ?? '', ROOMS[to]?.[0] ?? ''];
  const strangers = from !== to && STRANGERS.some((pair) => rooms.every((room) => pair.has(room)));
  if (strangers) return [`${file} imports from a room that it may not know: ${specifier}`];
  return to > from ? [`${file} imports upward: ${specifier}`] : [];
}

/** Cycles of imports, each once, as `a -> b -> a`. */
function cyclesOf(sources: Sources): string[] {
  const done = new Set<string>();
  const faults: string[] = [];
  function visit(file: string, path: readonly string[]): void {
    const start = path.indexOf(file);
    if (start >= 0) faults.push(`cycle: ${[...path.slice(start), file].join(' -> ')}`);
    const source = sources.get(file);
    if (start >= 0 || done.has(file) || source === undefined) return;
    for (const { specifier } of importsOf(source)) {
      const target = resolve(file, specifier);
      if (target !== null) visit(target, [...path, file]);
    }
    done.add(file);
  }
  for (const file of sources.keys()) visit(file, []);
  return faults;
}
