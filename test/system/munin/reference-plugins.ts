import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Graph } from './munin-node.ts';

/** Python of Debian. The plugins only need its SQLite module. */
const PYTHON = '/usr/bin/python3';

/** Directory with the source of the reference. */
const SOURCE = process.env['REFERENCE_SOURCE'] ?? '';

const PLUGINS = join(SOURCE, 'misc', 'munin');

/** Reason to skip tests of the reference's plugins; false if they exist. Only the source of the reference has them. */
export function withoutReferencePlugins(): string | false {
  if (SOURCE !== '' && existsSync(PLUGINS) && existsSync(PYTHON)) return false;
  return 'needs the source of the reference: test/system/munin/fetch-reference.sh DIR, then REFERENCE_SOURCE=DIR';
}

/** Output of a plugin of the reference: values by field name, or its configuration. */
export function referencePlugin(
  graph: Graph,
  usagedb: string,
  ...args: readonly string[]
): Readonly<Record<string, string>> {
  const output = execFileSync(PYTHON, [join(PLUGINS, `wormhole_transit_${graph}`), ...args], {
    encoding: 'utf8',
    env: { usagedb },
  });
  const lines = output.trimEnd().split('\n');
  return Object.fromEntries(
    lines.map((line) => {
      const [name = '', ...rest] = line.split(' ');
      return [name.replace(/\.value$/u, ''), rest.join(' ')];
    }),
  );
}
