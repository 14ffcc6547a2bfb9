import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { violationsOf } from './architecture/violations.ts';
import { importsOf, readSources } from './architecture/imports.ts';
import { LAYERS, LOADED_ON_DEMAND, RESERVED } from './architecture/layers.ts';

describe('the sources', () => {
  const sources = readSources();

  test('follow the architecture', () => {
    assert.deepEqual(violationsOf(sources), []);
  });

  test('are read completely, with their imports', () => {
    for (const [name, files] of LAYERS) {
      assert.ok(
        [...sources.keys()].some((file) => files.test(file)),
        `layer ${name} has files`,
      );
    }
    const named = (file: string): string[] =>
      importsOf(sources.get(file) ?? '').map(({ specifier, kind }) => `${kind} ${specifier}`);
    assert.ok(named('main.ts').includes('dynamic ./relay/relay.ts'));
    assert.ok(named('relay/relay.ts').includes('static ./relay-usage.ts'));
    assert.ok(named('sessions/session-manager.ts').includes('type ../protocol/session.ts'));
    const cluster = named('relay/relay.ts').filter((name) => name.endsWith('./cluster.ts'));
    assert.deepEqual(cluster, ['type ./cluster.ts', 'dynamic ./cluster.ts']);
  });

  test('include every file that the rules on reserved and dynamic imports name', () => {
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
    for (const file of LOADED_ON_DEMAND) assert.ok(sources.has(file), file);
  });
});

/** Violations of these files, added to files without violations that they may import. */
function violationsIn(files: Readonly<Record<string, string>>): string[] {
  const allowed = {
    'protocol/messages.ts':
      '/** Never leaves the process. Date: today. */\nexport const NEWLINE = 0x0a; // process.exit()\n',
    'protocol/session.ts':
      "import { NEWLINE } from './messages.ts';\nexport const line = `${NEWLINE} process.pid 'Buffer'`;\n",
    'process/process-metrics.ts': "import packageJson from '../../package.json' with { type: 'json' };\n",
    'process/errors.ts': 'export const code = 1;\n',
    'config/endpoint.ts': 'export class EndpointError extends Error {}\n',
    'config/relay-config.ts': "import type { Endpoint } from './endpoint.ts';\nexport interface Config {}\n",
    'process/logging.ts': "import { pino } from 'pino';\nexport const now = Date.now();\n",
    'process/program.ts': "import './logging.ts';\nprocess.exitCode = 78;\n",
    'transport/raw-transport.ts':
      "import type { Mood } from '../protocol/messages.ts';\nexport const none = Buffer.alloc(0);\n",
    'usage/record.ts': "import {\n  NEWLINE,\n} from '../protocol/messages.ts';\n",
    'usage/sqlite-sink.ts': "import '../process/logging.ts';\nimport './record.ts';\n",
    'cluster/token-leases.ts':
      "import { up } from './coordinator-client.ts';\nimport { none } from '../transport/raw-transport.ts';\n",
    // A type may come from a higher layer, and may close a cycle.
    'cluster/coordinator-client.ts':
      "import { Session } from '../sessions/session.ts';\nimport type { Leases } from './token-leases.ts';\nexport const up = 1;\n",
    'sessions/session.ts': 'export class Session {}\n',
    'sessions/session-manager.ts': "import type { Leases } from '../cluster/token-leases.ts';\n",
    'status/page.ts': "import '../config/endpoint.ts';\nimport type { R } from '../usage/record.ts';\n",
    'sidecar/api.ts': "import type { R } from '../status/page.ts';\n",
    'sidecar/dashboard/page.ts': "import type { R } from '../api.ts';\n",
    'sidecar/server.ts': "import './api.ts';\nimport '../usage/record.ts';\n",
    'relay/cluster.ts': "import '../cluster/token-leases.ts';\nexport class RelayCluster {}\n",
    'relay/relay.ts':
      "export { none } from '../transport/raw-transport.ts';\nimport '../status/page.ts';\nimport '../config/relay-config.ts';\nimport type { RelayCluster } from './cluster.ts';\nawait import('./cluster.ts');\n",
    'cli/import.ts': "import '../sidecar/server.ts';\nprocess.exitCode = 1;\n",
    'healthcheck.ts': "import './cli/import.ts';\nprocess.exitCode = 1;\n",
    'main.ts': "import './relay/relay.ts';\nimport './process/program.ts';\n",
  };
  assert.deepEqual(violationsOf(new Map(Object.entries(allowed))), []);
  return violationsOf(new Map(Object.entries({ ...allowed, ...files })));
}

describe('the check of the architecture', () => {
  const cases: readonly (readonly [file: string, source: string, violation: string])[] = [
    ['protocol/x.ts', "import { pino } from 'pino';", 'imports pino, which is outside protocol/'],
    ['protocol/x.ts', "import 'node:net';", 'imports node:net, which is outside protocol/'],
    ['protocol/x.ts', "import type { A } from 'node:net';", 'imports node:net, which is outside protocol/'],
    ['protocol/x.ts', "await import('node:fs');", 'imports node:fs, which is outside protocol/'],
    ['protocol/x.ts', "export * from 'ws';", 'imports ws, which is outside protocol/'],
    [
      'protocol/x.ts',
      "import '../protocol/messages.ts';",
      'imports ../protocol/messages.ts, which is outside protocol/',
    ],
    ['protocol/x.ts', "import {\n  a,\n  b,\n} from 'ws';", 'imports ws, which is outside protocol/'],
    [
      'config/x.ts',
      "import '../transport/raw-transport.ts';",
      'imports upward: ../transport/raw-transport.ts',
    ],
    ['config/x.ts', "import '../process/program.ts';", 'imports upward: ../process/program.ts'],
    [
      'sessions/client-session.ts',
      "import '../cluster/token-leases.ts';",
      'imports upward: ../cluster/token-leases.ts',
    ],
    ['cluster/x.ts', "import '../relay/relay.ts';", 'imports upward: ../relay/relay.ts'],
    ['process/x.ts', "import '../usage/record.ts';", 'imports upward: ../usage/record.ts'],
    ['status/x.ts', "export { Relay } from '../relay/relay.ts';", 'imports upward: ../relay/relay.ts'],
    ['transport/x.ts', "import '../main.ts';", 'imports upward: ../main.ts'],
    ['sidecar/x.ts', "import '../cli/import.ts';", 'imports upward: ../cli/import.ts'],
    ['cli/x.ts', "import '../main.ts';", 'imports upward: ../main.ts'],
    ['transport/x.ts', "import '../status/page.ts';", 'imports upward: ../status/page.ts'],
    ...(
      [
        ['usage', '../transport/raw-transport.ts'],
        ['transport', '../usage/record.ts'],
        ['sessions', '../status/page.ts'],
        ['sidecar', '../relay/relay.ts'],
        ['sidecar', '../sessions/session.ts'],
        ['sidecar/dashboard', '../server.ts'],
        ['cluster', '../usage/record.ts'],
        ['cluster', '../status/page.ts'],
        ['cluster', '../sidecar/server.ts'],
      ] as const
    ).map(
      ([folder, found]) =>
        [`${folder}/x.ts`, `import '${found}';`, `imports from an independent layer: ${found}`] as const,
    ),
    [
      'usage/x.ts',
      "import type { A } from '../transport/raw-transport.ts';",
      'imports from an independent layer: ../transport/raw-transport.ts',
    ],
    ['transport/x.ts', "import './peer';", 'imports ./peer, which does not end in .ts'],
    ['transport/x.ts', "import './peer.js';", 'imports ./peer.js, which does not end in .ts'],
    ['transport/x.ts', "import './gone.ts';", 'imports ./gone.ts, which does not exist'],
    [
      'process/process-metrics.ts',
      "import '../../tsconfig.json';",
      'imports ../../tsconfig.json, which does not end in .ts',
    ],
    ['transport/x.ts', 'export default class X {}', 'has a default export'],
    ['transport/x.ts', 'const x = 1;\nexport { x as default };', 'has a default export'],
    ['transport/index.ts', "export * from './raw-transport.ts';", 'is a barrel'],
    ['transport/x.ts', 'export const pid = process.pid;', 'uses process'],
    ['transport/x.ts', 'export const pid = `${process.pid}`;', 'uses process'],
    ['transport/x.ts', "import { env } from 'node:process';", 'uses process'],
    [
      'relay/x.ts',
      "import '../cluster/token-leases.ts';",
      'imports ../cluster/token-leases.ts, which is reserved for others',
    ],
    [
      'relay/x.ts',
      "import type { A } from '../cluster/token-leases.ts';",
      'imports ../cluster/token-leases.ts, which is reserved for others',
    ],
    [
      'main.ts',
      "await import('./cluster/token-leases.ts');",
      'imports ./cluster/token-leases.ts, which is reserved for others',
    ],
    ['main.ts', "import './relay/cluster.ts';", 'imports ./relay/cluster.ts before it is needed'],
    [
      'relay/x.ts',
      "import { type RelayCluster } from './cluster.ts';",
      'imports ./cluster.ts before it is needed',
    ],
    ['relay/x.ts', "import type, { A } from './cluster.ts';", 'imports ./cluster.ts before it is needed'],
    [
      'relay/x.ts',
      "export { RelayCluster } from './cluster.ts';",
      'imports ./cluster.ts before it is needed',
    ],
    ['helpers/x.ts', 'export const x = 1;', 'is in no layer'],
  ];
  for (const [file, source, violation] of cases) {
    test(`finds that ${file} ${violation}, with ${JSON.stringify(source)}`, () => {
      assert.deepEqual(violationsIn({ [file]: source }), [`${file} ${violation}`]);
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
      assert.deepEqual(violationsIn({ 'protocol/x.ts': `export const x = ${code};` }), [
        `protocol/x.ts is not pure: ${name}`,
      ]);
    });
  }

  test('finds a cycle of three files, once', () => {
    const violations = violationsIn({
      'transport/a.ts': "import './b.ts';",
      'transport/b.ts': "import { C } from './c.ts';",
      'transport/c.ts': "export { a } from './a.ts';",
    });
    assert.deepEqual(violations, [
      'cycle: transport/a.ts -> transport/b.ts -> transport/c.ts -> transport/a.ts',
    ]);
  });

  test('finds a cycle of two files, and a file that imports itself', () => {
    const violations = violationsIn({
      'protocol/messages.ts': "import './session.ts';",
      'transport/x.ts': "import './x.ts';",
    });
    assert.deepEqual(violations, [
      'cycle: protocol/messages.ts -> protocol/session.ts -> protocol/messages.ts',
      'cycle: transport/x.ts -> transport/x.ts',
    ]);
  });

  test('finds all violations at once', () => {
    const violations = violationsIn({
      'protocol/x.ts': "import 'ws';",
      'transport/y.ts': 'export default 1;',
    });
    assert.equal(violations.length, 2);
  });
});
