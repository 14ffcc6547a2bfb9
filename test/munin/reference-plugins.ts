import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Graph } from '../support/munin-node.ts';

/** Debian's own: the plugins are Python scripts that only need its SQLite. */
const PYTHON = '/usr/bin/python3';

/** Where the reference's source has been unpacked. */
const SOURCE = process.env['REFERENCE_SOURCE'] ?? '';

const PLUGINS = join(SOURCE, 'misc', 'munin');

/** Why there are none, for a test to be skipped; false where they are there. Only the reference's source has them. */
export function withoutReferencePlugins(): string | false {
  if (SOURCE !== '' && existsSync(PLUGINS) && existsSync(PYTHON)) return false;
  return 'needs the source of the reference: test/munin/fetch-reference.sh DIR, then REFERENCE_SOURCE=DIR';
}

/** What the plugin of the reference says, line by line: values by the names of their fields, or its configuration. */
export function referencePlugin(
  graph: Graph,
  usagedb: string,
  ...args: readonly string[]
): Readonly<Record<string, string>> {
  const said = execFileSync(PYTHON, [join(PLUGINS, `wormhole_transit_${graph}`), ...args], {
    encoding: 'utf8',
    env: { usagedb },
  });
  const lines = said.trimEnd().split('\n');
  return Object.fromEntries(
    lines.map((line) => {
      const [name = '', ...rest] = line.split(' ');
      return [name.replace(/\.value$/u, ''), rest.join(' ')];
    }),
  );
}
