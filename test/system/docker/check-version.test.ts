import { deepEqual, equal } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { VERSION } from '../../../src/process/version.ts';
import { ROOT } from '../../support/docker.ts';
import { scratch } from '../../support/scratch.ts';

const SCRIPT = 'deploy/image/check-version.sh';

/** Where the version is, and what the script calls the place. */
const PLACES = [
  ['package.json', 'package.json'],
  ['package-lock.json', 'package-lock.json'],
  ['CHANGELOG.md', 'the newest section of CHANGELOG.md'],
  ['Dockerfile', 'VERSION in the Dockerfile'],
] as const;

/** Runs the script. Resolves with its exit code and the places that it names. */
function check(root: string, ...words: readonly string[]): readonly [code: number | null, places: string[]] {
  const { status, stderr } = spawnSync(join(root, SCRIPT), words, { encoding: 'utf8' });
  return [status, [...stderr.matchAll(/, but (.+) has "/gu)].map(([, place = '']) => place)];
}

/** A copy of the files that the script reads. */
async function copy(context: TestContext): Promise<string> {
  const directory = await scratch(context);
  for (const file of [SCRIPT, ...PLACES.map(([name]) => name)])
    cpSync(join(ROOT, file), join(directory, file));
  return directory;
}

describe('the check of a release', () => {
  test('accepts the tag of this version', () => {
    deepEqual(check(ROOT, `v${VERSION}`), [0, []]);
  });

  test('refuses every other tag', () => {
    const everywhere = PLACES.map(([, place]) => place);
    for (const tag of [VERSION, `v${VERSION}1`, `v${VERSION}-rc.1`, 'v0.1.0', 'latest', ''])
      deepEqual(check(ROOT, tag), [1, everywhere], tag);
    equal(check(ROOT)[0] === 0, false);
  });

  for (const [file, place] of PLACES) {
    test(`refuses the tag if ${place} has another version`, async (context) => {
      const root = await copy(context);
      const text = readFileSync(join(root, file), 'utf8');
      const changed = text.replace(VERSION, '9.9.9');
      writeFileSync(join(root, file), changed);
      deepEqual(check(root, `v${VERSION}`), [1, [place]]);
    });
  }

  test('runs before anything is built, and for the image that is published', () => {
    const workflow = readFileSync(join(ROOT, '.github', 'workflows', 'release.yml'), 'utf8');
    const calls = [...workflow.matchAll(/check-version\.sh (.+)$/gmu)].map(([, words]) => words);
    deepEqual(calls, ['"$GITHUB_REF_NAME"', '"$GITHUB_REF_NAME" "$DIGEST"']);
  });
});
