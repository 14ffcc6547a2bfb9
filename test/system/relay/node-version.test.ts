import { equal, match } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { findProgram } from '../../support/programs.ts';
import { scratch } from '../../support/scratch.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const CHECK = 'src/process/require-node.cjs';

const [MAJOR = 0, MINOR = 0] = process.versions.node.split('.').map(Number);

/** Starts an empty program with the check, in a package that requires this version of Node.js. */
async function start(
  context: TestContext,
  required: string,
): Promise<readonly [code: number | null, stderr: string]> {
  const root = await scratch(context);
  const version = `>=${required}`;
  writeFileSync(
    join(root, 'package.json'),
    JSON.stringify({ devEngines: { runtime: { name: 'node', version } } }),
  );
  mkdirSync(dirname(join(root, CHECK)), { recursive: true });
  cpSync(join(ROOT, CHECK), join(root, CHECK));
  const { status, stderr } = spawnSync(process.execPath, ['--require', join(root, CHECK), '--eval', ''], {
    encoding: 'utf8',
  });
  return [status, stderr];
}

describe('the required version of Node.js', () => {
  for (const required of [`${MAJOR}.${MINOR + 1}`, `${MAJOR + 1}.0`]) {
    test(`ends a program with exit code 78 and one sentence if it is newer: ${required}`, async (context) => {
      const [code, stderr] = await start(context, required);
      equal(code, 78);
      equal(
        stderr,
        `Node.js ${required} or newer is needed, but ${process.execPath} is ${process.versions.node}\n`,
      );
    });
  }

  for (const required of [`${MAJOR}.${MINOR}`, `${MAJOR}.0`, `${MAJOR - 1}.${MINOR + 1}`]) {
    test(`is invisible if it is not newer: ${required}`, async (context) => {
      const [code, stderr] = await start(context, required);
      equal(`${code} ${stderr}`, '0 ');
    });
  }

  test(
    'is that of all packages: npm ci prints no warning',
    { skip: findProgram('npm') === null ? 'needs npm' : false },
    async (context) => {
      const root = await scratch(context);
      for (const file of ['package.json', 'package-lock.json', '.npmrc'])
        cpSync(join(ROOT, file), join(root, file));
      const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH']}` };
      const options = { cwd: root, env, encoding: 'utf8' } as const;
      const { status, stdout, stderr } = spawnSync('npm', ['ci', '--dry-run', '--offline'], options);
      equal(`${status} ${stderr}`, '0 ');
      match(stdout, /added \d+ packages/u);
    },
  );
});
