import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import { describe, test } from 'node:test';

/** Source texts by their path inside src, with `/` between its parts. */
type Sources = ReadonlyMap<string, string>;

/** From bottom to top, each with the files it holds: a file imports from its own room or from lower ones. */
const ROOMS: readonly (readonly [name: string, files: RegExp])[] = [
  // Lowest, so that it knows nothing of the others; the protocol imports nothing but itself anyway.
  ['process metrics', /^process-metrics\.ts$/u],
  ['protocol', /^protocol\//u],
  ['error code', /^error-code\.ts$/u],
  ['endpoint', /^net\/(?:endpoint|trusted-proxies)\.ts$/u],
  ['config', /^config\//u],
  ['output', /^output\.ts$/u],
  ['logging', /^logging\.ts$/u],
  ['program', /^program\.ts$/u],
  ['listener', /^net\/listener\.ts$/u],
  ['usage', /^usage\//u],
  ['limits', /^limits\//u],
  // Three of its files lie lower; the rest of the folder is this room.
  ['net', /^net\/(?!(?:endpoint|trusted-proxies|listener)\.ts$)/u],
  ['status', /^status\//u],
  ['cluster', /^cluster\//u],
  ['sidecar api', /^sidecar\/api\.ts$/u],
  ['dashboard', /^sidecar\/dashboard\//u],
  ['sidecar', /^sidecar\/(?!api\.ts$|dashboard\/)/u],
  ['relay', /^relay(?:-[a-z]+)?\.ts$/u],
  ['main', /^main\.ts$/u],
  ['healthcheck', /^healthcheck\.ts$/u],
  ['import', /^import\.ts$/u],
];

/** Rooms that know nothing of each other, though one has to lie above the other. */
const STRANGERS: readonly ReadonlySet<string>[] = [
  new Set(['usage', 'net']),
  new Set(['net', 'status']),
  new Set(['net', 'sidecar']),
  // The page gets everything by HTTP; of the rest of the sidecar it knows what is said there.
  new Set(['dashboard', 'sidecar']),
  ...['process metrics', 'config', 'output', 'usage', 'net', 'status'].map(
    (room) => new Set([room, 'dashboard']),
  ),
  new Set(['sidecar', 'relay']),
];

/** What a browser finds there, though it lies elsewhere. */
const SERVED: ReadonlySet<string> = new Set(['sidecar/dashboard/uplot.js']);

/** What is no source, and tells the version. */
const DATA: ReadonlySet<string> = new Set(['../package.json']);

/** What runs programs; what finds something there: Node's own parts in one file, and its version in another. */
const MAY_TOUCH_PROCESS: ReadonlySet<string> = new Set([
  'program.ts',
  'healthcheck.ts',
  'import.ts',
  'net/handle.ts',
  'process-metrics.ts',
]);

/** What reaches out of a pure room without an import. */
const IMPURE =
  /\b(?:process|Buffer|Date|performance|setTimeout|setInterval|setImmediate|console|Math\s*\.\s*random|crypto|fetch|globalThis|require)\b/gu;

const COMMENTS_AND_STRINGS =
  /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\[\s\S]|[^`\\])*`/gu;

function withoutComments(source: string): string {
  return source.replace(COMMENTS_AND_STRINGS, (found) => (found.startsWith('/') ? ' ' : found));
}

/** Leaves of a source what runs: no comments, and of strings only what templates compute. */
function codeOf(source: string): string {
  return source.replace(COMMENTS_AND_STRINGS, (found) =>
    found.startsWith('`') ? (found.match(/\$\{[^}]*\}/gu) ?? []).join(' ') : ' ',
  );
}

/** Whatever a file names behind `from` or `import`, types included. */
function importsOf(source: string): string[] {
  const statements = /\b(?:import|export)\b[^'"`;]*?\bfrom\s*(['"])(.+?)\1|\bimport\s*\(?\s*(['"`])(.+?)\3/gu;
  return [...withoutComments(source).matchAll(statements)].map((match) => match[2] ?? match[4] ?? '');
}

/** The path inside src of what a file imports, or null for a package. */
function resolve(file: string, specifier: string): string | null {
  return specifier.startsWith('.') ? posix.join(posix.dirname(file), specifier) : null;
}

function roomOf(file: string): number {
  return ROOMS.findIndex(([, files]) => files.test(file));
}

/** Every fault of an architecture, each in a sentence that names its file. */
function faultsOf(sources: Sources): string[] {
  const faults: string[] = [];
  for (const [file, source] of sources) {
    faults.push(...faultsOfFile(file, source));
    for (const specifier of importsOf(source)) faults.push(...faultsOfImport(sources, file, specifier));
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

function faultsOfImport(sources: Sources, file: string, specifier: string): string[] {
  const target = resolve(file, specifier);
  const faults: string[] = [];
  if (file.startsWith('protocol/') && !/^\.\/[^/]+$/u.test(specifier)) {
    faults.push(`${file} imports ${specifier}, which is no sibling`);
  }
  if (!MAY_TOUCH_PROCESS.has(file) && /^(?:node:)?process$/u.test(specifier))
    faults.push(`${file} touches process`);
  if (target === null || SERVED.has(target) || DATA.has(target)) return faults;
  if (!specifier.endsWith('.ts')) faults.push(`${file} imports ${specifier}, which does not end in .ts`);
  else if (!sources.has(target)) faults.push(`${file} imports ${specifier}, which is not there`);
  const [from, to] = [roomOf(file), roomOf(target)];
  const rooms = [ROOMS[from]?.[0] ?? '', ROOMS[to]?.[0] ?? ''];
  const strangers = from !== to && STRANGERS.some((pair) => rooms.every((room) => pair.has(room)));
  if (strangers) faults.push(`${file} imports from a room that it may not know: ${specifier}`);
  else if (to > from) faults.push(`${file} imports upward: ${specifier}`);
  return faults;
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
    for (const specifier of importsOf(source)) {
      const target = resolve(file, specifier);
      if (target !== null) visit(target, [...path, file]);
    }
    done.add(file);
  }
  for (const file of sources.keys()) visit(file, []);
  return faults;
}

function readSources(): Sources {
  const root = join(import.meta.dirname, '..', 'src');
  // What types a package lacks is written as that package has it, default exports and all.
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter(
    (file) => /\.[cm]?[jt]sx?$/u.test(file) && !file.endsWith('.d.ts'),
  );
  return new Map(files.map((file) => [file.replaceAll('\\', '/'), readFileSync(join(root, file), 'utf8')]));
}

describe('the sources', () => {
  const sources = readSources();

  test('keep to the architecture', () => {
    assert.deepEqual(faultsOf(sources), []);
  });

  test('are read whole, with their imports', () => {
    for (const [name, files] of ROOMS) {
      assert.ok(
        [...sources.keys()].some((file) => files.test(file)),
        `room ${name} has files`,
      );
    }
    assert.ok(importsOf(sources.get('main.ts') ?? '').includes('./relay.ts'));
    assert.ok(importsOf(sources.get('net/hub.ts') ?? '').includes('../protocol/session.ts'));
  });
});

/** The faults of these files, among others that have none and may be imported. */
function faultsIn(files: Readonly<Record<string, string>>): string[] {
  const lawful = {
    'protocol/wire.ts':
      '/** Never leaves the process. Date: today. */\nexport const NEWLINE = 0x0a; // process.exit()\n',
    'process-metrics.ts': "import packageJson from '../package.json' with { type: 'json' };\n",
    'error-code.ts': 'export const code = 1;\n',
    'protocol/session.ts':
      "import { NEWLINE } from './wire.ts';\nexport const say = `${NEWLINE} process.pid 'Buffer'`;\n",
    'net/endpoint.ts': 'export class EndpointError extends Error {}\n',
    'net/peer.ts': "import type { Mood } from '../protocol/wire.ts';\nexport const none = Buffer.alloc(0);\n",
    'config/config.ts': "import type { Endpoint } from '../net/endpoint.ts';\nexport interface Config {}\n",
    'output.ts': "import { pino } from 'pino';\nexport const now = Date.now();\n",
    'usage/record.ts': "import {\n  NEWLINE,\n} from '../protocol/wire.ts';\n",
    'usage/sink.ts': "import '../output.ts';\nimport './record.ts';\n",
    'status/page.ts': "import '../net/endpoint.ts';\nimport type { R } from '../usage/record.ts';\n",
    'sidecar/api.ts': "import type { R } from '../status/page.ts';\n",
    'sidecar/dashboard/page.ts': "import type { R } from '../api.ts';\n",
    'sidecar/server.ts': "import './api.ts';\nimport '../usage/record.ts';\n",
    'healthcheck.ts': "import './sidecar/server.ts';\nprocess.exitCode = 1;\n",
    'relay.ts':
      "export { none } from './net/peer.ts';\nimport './status/page.ts';\nimport './config/config.ts';\n",
    'main.ts': "import './relay.ts';\nimport './program.ts';\n",
    'program.ts': "import './output.ts';\nprocess.exitCode = 78;\n",
  };
  assert.deepEqual(faultsOf(new Map(Object.entries(lawful))), []);
  return faultsOf(new Map(Object.entries({ ...lawful, ...files })));
}

describe('the check of the architecture', () => {
  const cases: readonly (readonly [file: string, source: string, fault: string])[] = [
    ['protocol/x.ts', "import { pino } from 'pino';", 'imports pino, which is no sibling'],
    ['protocol/x.ts', "import 'node:net';", 'imports node:net, which is no sibling'],
    ['protocol/x.ts', "import type { A } from 'node:net';", 'imports node:net, which is no sibling'],
    ['protocol/x.ts', "await import('node:fs');", 'imports node:fs, which is no sibling'],
    ['protocol/x.ts', "export * from 'ws';", 'imports ws, which is no sibling'],
    ['protocol/x.ts', "import '../protocol/wire.ts';", 'imports ../protocol/wire.ts, which is no sibling'],
    ['protocol/x.ts', "import {\n  a,\n  b,\n} from 'ws';", 'imports ws, which is no sibling'],
    ['usage/x.ts', "import '../net/peer.ts';", 'imports from a room that it may not know: ../net/peer.ts'],
    [
      'net/x.ts',
      "import '../usage/record.ts';",
      'imports from a room that it may not know: ../usage/record.ts',
    ],
    [
      'sidecar/dashboard/x.ts',
      "import '../server.ts';",
      'imports from a room that it may not know: ../server.ts',
    ],
    ['sidecar/x.ts', "import '../relay.ts';", 'imports from a room that it may not know: ../relay.ts'],
    ['sidecar/x.ts', "import '../net/peer.ts';", 'imports from a room that it may not know: ../net/peer.ts'],
    ['net/endpoint.ts', "import type { A } from './peer.ts';", 'imports upward: ./peer.ts'],
    ['config/x.ts', "import '../net/peer.ts';", 'imports upward: ../net/peer.ts'],
    ['output.ts', "import './usage/record.ts';", 'imports upward: ./usage/record.ts'],
    [
      'net/x.ts',
      "import '../status/page.ts';",
      'imports from a room that it may not know: ../status/page.ts',
    ],
    ['status/x.ts', "export { Relay } from '../relay.ts';", 'imports upward: ../relay.ts'],
    ['net/x.ts', "import '../main.ts';", 'imports upward: ../main.ts'],
    ['net/x.ts', "import './peer';", 'imports ./peer, which does not end in .ts'],
    ['net/x.ts', "import './peer.js';", 'imports ./peer.js, which does not end in .ts'],
    ['net/x.ts', "import './gone.ts';", 'imports ./gone.ts, which is not there'],
    ['process-metrics.ts', "import './error-code.ts';", 'imports upward: ./error-code.ts'],
    [
      'process-metrics.ts',
      "import '../tsconfig.json';",
      'imports ../tsconfig.json, which does not end in .ts',
    ],
    ['net/x.ts', 'export default class X {}', 'has a default export'],
    ['net/x.ts', 'const x = 1;\nexport { x as default };', 'has a default export'],
    ['net/index.ts', "export * from './peer.ts';", 'is a barrel'],
    ['net/x.ts', 'export const pid = process.pid;', 'touches process'],
    ['net/x.ts', 'export const pid = `${process.pid}`;', 'touches process'],
    ['net/x.ts', "import { env } from 'node:process';", 'touches process'],
    ['helpers/x.ts', 'export const x = 1;', 'is in no room'],
  ];
  for (const [file, source, fault] of cases) {
    test(`finds that ${file} ${fault}, with ${JSON.stringify(source)}`, () => {
      assert.deepEqual(faultsIn({ [file]: source }), [`${file} ${fault}`]);
    });
  }

  const impure = [
    ['Buffer', 'Buffer.alloc(1)'],
    ['Date', 'new Date()'],
    ['performance', 'performance.now()'],
    ['setTimeout', 'setTimeout(f, 1)'],
    ['console', 'console.log(1)'],
    ['Math.random', 'Math.random()'],
    ['process', 'f(process)'],
  ] as const;
  for (const [name, code] of impure) {
    test(`finds ${name} in the protocol`, () => {
      assert.deepEqual(faultsIn({ 'protocol/x.ts': `export const x = ${code};` }), [
        `protocol/x.ts is not pure: ${name}`,
      ]);
    });
  }

  test('finds a cycle of three files, once', () => {
    const faults = faultsIn({
      'net/a.ts': "import './b.ts';",
      'net/b.ts': "import type { C } from './c.ts';",
      'net/c.ts': "export { a } from './a.ts';",
    });
    assert.deepEqual(faults, ['cycle: net/a.ts -> net/b.ts -> net/c.ts -> net/a.ts']);
  });

  test('finds a cycle of two files, and a file that imports itself', () => {
    const faults = faultsIn({ 'protocol/wire.ts': "import './session.ts';", 'net/x.ts': "import './x.ts';" });
    assert.deepEqual(faults, [
      'cycle: protocol/wire.ts -> protocol/session.ts -> protocol/wire.ts',
      'cycle: net/x.ts -> net/x.ts',
    ]);
  });

  test('finds all faults at once', () => {
    const faults = faultsIn({ 'protocol/x.ts': "import 'ws';", 'net/y.ts': 'export default 1;' });
    assert.equal(faults.length, 2);
  });
});
