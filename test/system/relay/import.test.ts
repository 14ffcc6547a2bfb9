import { deepEqual, equal, match } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { VALID_ROWS, createCombinedDatabase, readQuotedValues } from '../../support/combined-database.ts';
import { RelayProcess, UsageReader } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { TestClient } from '../../support/test-client.ts';
import { runWithReference } from '../../support/usage-files.ts';

const IMPORT = join(import.meta.dirname, '..', '..', '..', 'src', 'import.ts');

function run(directory: string, ...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [IMPORT, ...args], {
    cwd: directory,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

describe('src/import.ts', () => {
  test('imports the records of a combined server, for this relay and for the reference', async (context) => {
    const directory = await scratch(context);
    const [old, path] = [join(directory, 'relay.sqlite'), join(directory, 'usage.sqlite')];
    createCombinedDatabase(old);
    deepEqual(run(directory, 'relay.sqlite', 'usage.sqlite'), {
      status: 0,
      stdout: 'imported 4 records into "usage.sqlite": 2 happy, 1 lonely, 1 errory\n',
      stderr: '',
    });
    const imported = readQuotedValues(path, 'usage');
    deepEqual(imported, readQuotedValues(old, 'transit_usage'));
    const relay = await RelayProcess.start({ RELAY_USAGE_DB: path });
    const ports = { tcpPort: relay.port('raw'), websocketPort: 0, unixPath: '' };
    const client = await TestClient.connect('tcp', ports);
    await client.send('nonsense\n');
    await client.closed;
    await relay.stop();
    deepEqual(readQuotedValues(path, 'usage').slice(0, VALID_ROWS.length), imported);
    using reader = new UsageReader(path);
    equal(reader.rows().length, VALID_ROWS.length + 1);
    const count = 'print(get_db(sys.argv[1]).execute("SELECT count(*) AS n FROM usage").fetchone()["n"])';
    const counted = runWithReference(context, count, path);
    if (counted !== null) equal(counted.trim(), String(VALID_ROWS.length + 1));
  });

  test('reports why it fails, and changes nothing', async (context) => {
    const directory = await scratch(context);
    createCombinedDatabase(join(directory, 'relay.sqlite'));
    const rejected = run(directory, 'relay.sqlite', 'relay.sqlite');
    equal(rejected.status, 1);
    equal(rejected.stdout, '');
    match(rejected.stderr, /^"[^"]*relay\.sqlite" exists already[^\n]*\n$/u);
    deepEqual(readdirSync(directory), ['relay.sqlite']);
  });

  for (const args of [[], ['one'], ['one', 'two', 'three'], ['one', ''], ['--force', 'one', 'two']]) {
    test(`requires two paths, not ${JSON.stringify(args)}`, async (context) => {
      const directory = await scratch(context);
      const { status, stdout, stderr } = run(directory, ...args);
      deepEqual([status, stdout], [64, '']);
      match(stderr, /^usage: node src\/import\.ts OLD NEW\n/u);
      deepEqual(readdirSync(directory), []);
    });
  }
});
