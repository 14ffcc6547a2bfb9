import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { faultsOf } from './architecture/faults.ts';
import { importsOf, readSources } from './architecture/imports.ts';
import { LOADED_LATE, RESERVED, ROOMS } from './architecture/rooms.ts';

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
    const named = (file: string): string[] =>
      importsOf(sources.get(file) ?? '').map(({ specifier, kind }) => `${kind} ${specifier}`);
    assert.ok(named('main.ts').includes('late ./relay-program.ts'));
    assert.ok(named('relay-program.ts').includes('first ./relay.ts'));
    assert.ok(named('net/hub.ts').includes('type ../protocol/session.ts'));
    const group = named('relay.ts').filter((name) => name.endsWith('./relay-cluster.ts'));
    assert.deepEqual(group, ['type ./relay-cluster.ts', 'late ./relay-cluster.ts']);
  });

  test('have what is reserved for some of them, and what is loaded late', () => {
    const files = [...sources.keys()];
    const packages = files
      .flatMap((file) => importsOf(sources.get(file) ?? ''))
      .map(({ specifier }) => specifier);
    for (const { what, by } of RESERVED) {
      assert.ok(
        [...files, ...packages].some((name) => what.test(name)),
        String(what),
      );
      assert.ok(
        files.some((file) => by.test(file)),
        String(by),
      );
    }
    for (const file of LOADED_LATE) assert.ok(sources.has(file), file);
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
    'logging.ts': 'export const level = 1;\n',
    'output.ts': "import { pino } from 'pino';\nexport const now = Date.now();\n",
    'usage/record.ts': "import {\n  NEWLINE,\n} from '../protocol/wire.ts';\n",
    'usage/sink.ts': "import '../output.ts';\nimport './record.ts';\n",
    'cluster/claims.ts': "import { up } from './coordinator.ts';\nimport { none } from '../net/peer.ts';\n",
    'cluster/coordinator.ts': 'export const up = 1;\n',
    'relay-cluster.ts': "import './cluster/claims.ts';\nexport class RelayCluster {}\n",
    'status/page.ts': "import '../net/endpoint.ts';\nimport type { R } from '../usage/record.ts';\n",
    'sidecar/api.ts': "import type { R } from '../status/page.ts';\n",
    'sidecar/dashboard/page.ts': "import type { R } from '../api.ts';\n",
    'sidecar/server.ts': "import './api.ts';\nimport '../usage/record.ts';\n",
    'healthcheck.ts': "import './sidecar/server.ts';\nprocess.exitCode = 1;\n",
    'relay.ts':
      "export { none } from './net/peer.ts';\nimport './status/page.ts';\nimport './config/config.ts';\nimport type { RelayCluster } from './relay-cluster.ts';\nawait import('./relay-cluster.ts');\n",
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
    ['relay-x.ts', "import './cluster/claims.ts';", 'imports ./cluster/claims.ts, which is not for it'],
    [
      'relay-x.ts',
      "import type { A } from './cluster/claims.ts';",
      'imports ./cluster/claims.ts, which is not for it',
    ],
    ['main.ts', "await import('./cluster/claims.ts');", 'imports ./cluster/claims.ts, which is not for it'],
    ['main.ts', "import './relay-cluster.ts';", 'imports ./relay-cluster.ts before it is needed'],
    [
      'relay-x.ts',
      "import { type RelayCluster } from './relay-cluster.ts';",
      'imports ./relay-cluster.ts before it is needed',
    ],
    [
      'relay-x.ts',
      "import type, { A } from './relay-cluster.ts';",
      'imports ./relay-cluster.ts before it is needed',
    ],
    [
      'relay-x.ts',
      "export { RelayCluster } from './relay-cluster.ts';",
      'imports ./relay-cluster.ts before it is needed',
    ],
    ...[
      '../config/config.ts',
      '../output.ts',
      '../program.ts',
      '../usage/record.ts',
      '../status/page.ts',
      '../logging.ts',
      '../process-metrics.ts',
      '../sidecar/api.ts',
      '../sidecar/server.ts',
      '../sidecar/dashboard/page.ts',
    ].map(
      (found) =>
        ['cluster/x.ts', `import '${found}';`, `imports from a room that it may not know: ${found}`] as const,
    ),
    ['cluster/x.ts', "import '../relay.ts';", 'imports upward: ../relay.ts'],
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
